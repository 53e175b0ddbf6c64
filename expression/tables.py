"""How a run reports its answers: on the screen, as JSON, as a CSV table, as drawn pictures."""

import csv
import json
import os
import sys
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from expression.about import not_sure_share, not_sure_words
from expression.drawing import draw_faces
from expression.face_prediction import FacePrediction
from expression.output_files import OutputFiles, OutputGroup
from expression.picture_batches import PictureAnswer

__all__ = ["Report"]

WAITING = 48  # drawn pictures that may wait to be saved


class Report:
    """Writes answers: bars on the screen, or one JSON list; a CSV file; drawn pictures."""

    def __init__(
        self,
        class_names: Sequence[str],
        files: OutputFiles,
        *,
        table: Path | None = None,
        annotate: Path | None = None,
        as_json: bool = False,
        top_k: int | None = None,
        brief: bool = False,
    ) -> None:
        self.class_names, self.files, self.brief = class_names, files, brief
        self.table_path, self.annotate, self.as_json, self.top_k = table, annotate, as_json, top_k
        self.answers: list[dict[str, Any]] = []
        self.videos: list[dict[str, Any]] = []

    def __enter__(self) -> "Report":
        self.stack = ExitStack()
        self.table = None
        if self.annotate:
            self.annotate.mkdir(parents=True, exist_ok=True)
        if self.table_path:
            self.table = csv.writer(self.stack.enter_context(self.files.text(self.table_path)))
            place = ["x", "y", "width", "height", "score", "expression", "sure"]
            self.table.writerow(["picture", "face", *place, *self.class_names])
        self.pool = ThreadPoolExecutor(os.cpu_count() or 1)
        self.saving: deque[Future[None]] = deque()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.pool.shutdown(cancel_futures=True)
        finally:
            self.stack.close()
        if self.as_json:
            print(json.dumps(self.answers + self.videos, indent=1))
        for note in self.files.notes():
            tqdm.write(note, file=sys.stderr)

    def add(self, answer: PictureAnswer) -> None:
        """Report one picture; boxes are in pixels of the file."""
        if self.annotate:
            name = Path(answer.name.rstrip("/")).name or "picture"
            stem = "".join(c if c.isalnum() or c in "-_. " else "_" for c in Path(name).stem)
            group = self.files.reserve(self.annotate, stem or "_", [".jpg"])
            self.saving.append(self.pool.submit(save_drawn, answer, group))
            if len(self.saving) > WAITING:
                self.saving.popleft().result()
        times = answer.opened().info.get("reduced", 1)
        faces = [replace(f, box=tuple(v * times for v in f.box)) for f in answer.faces]
        if self.table:
            rows = [
                [answer.name, i, *f.box, f"{f.score:.3f}", f.expression]
                + ["true" if f.sure else "false"]
                + [f"{f.probs[name]:.4f}" for name in self.class_names]
                for i, f in enumerate(faces, 1)
            ]
            # A picture without a face has a row, too, so that every input is in the table.
            self.table.writerows(rows or [[answer.name, 0]])
        kept = [dict(list(f.probs.items())[: self.top_k]) for f in faces]
        if self.as_json:
            entries = [
                {"box": list(f.box), "score": f.score, "expression": f.expression,
                 "sure": f.sure, "probabilities": probs}
                for f, probs in zip(faces, kept, strict=True)
            ]  # fmt: skip
            self.answers.append({"picture": answer.name, "faces": entries})
        elif self.brief:
            words = [brief_words(f) for f in faces]
            tqdm.write(f"{answer.name}: {', '.join(words) or 'no face found'}")
        else:
            show(answer.name, faces, kept)

    def finish(self) -> None:
        """Wait until the last picture is drawn and saved; an error there is raised here."""
        while self.saving:
            self.saving.popleft().result()

    def add_video(self, summary: dict[str, Any]) -> None:
        self.videos.append(summary)
        if not self.as_json:
            faces = "1 face" if summary["tracks"] == 1 else f"{summary['tracks']} faces"
            unsure = not_sure_share(summary)
            print(
                f"{summary['video']}: {summary['frames']} frames, {summary['seconds']:.1f} s, "
                f"{faces} followed{unsure and f', {unsure}'}; wrote {', '.join(summary['files'])}"
            )


def brief_words(face: FacePrediction) -> str:
    """'happy 91 %', or 'not sure (sad 38 %)'."""
    words = f"{face.expression} {100 * face.confidence:.0f} %"
    return words if face.sure else f"{face.label} ({words})"


def save_drawn(answer: PictureAnswer, group: OutputGroup) -> None:
    with group:
        draw_faces(answer.opened(), answer.faces).save(group.path(".jpg"), quality=90)
        group.keep(".jpg")


def show(name: str, faces: Sequence[FacePrediction], kept: Sequence[dict[str, float]]) -> None:
    print(name)
    if not faces:
        print("  no face found (a picture that is a face already, cropped: --whole)")
    for number, (face, probs) in enumerate(zip(faces, kept, strict=True), 1):
        if len(faces) > 1:
            x, y, width, height = face.box
            print(f"  face {number}, {width} × {height} at ({x}, {y})")
        if not face.sure:
            print(f"  {face.label}: {not_sure_words(face.min_confidence)}")
        for label, share in probs.items():
            print(f"  {label:10} {100 * share:5.1f} %  {'█' * round(share * 24)}")
