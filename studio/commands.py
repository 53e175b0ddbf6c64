"""What `predict.py` does with its arguments: many pictures fast, videos frame by frame.

Pictures are answered by as many threads as the machine has cores, some pictures each, and
torch uses one core in each of them; the faces of such a group go through the network together.
"""

import argparse
import csv
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from faces import Face, FaceFinder, use_one_core
from studio.drawing import draw_faces, timeline_figure
from studio.follow import Seen
from studio.pictures import expand, is_video, open_picture
from studio.timeline import read_timeline
from studio.video import annotate_video

__all__ = ["answer_all", "answer_pictures", "watch"]

Progress = Callable[[float, float | None], None]
GROUP, AHEAD = 8, 6  # pictures that go through the networks together; such groups at once
LONGEST = 2048  # pixels: a larger JPEG may be decoded at a half, a quarter or an eighth


@dataclass
class Answer:
    """A picture with its faces, or the reason why there is none."""

    name: str
    image: Image.Image | None = None
    seen: list[Seen] = field(default_factory=list)
    error: str = ""


Looked = tuple[Answer, list[Face]]


def answer_pictures(
    predictor: Any, names: Sequence[str], whole: bool = False, allow_private: bool = False
) -> Iterator[Answer]:
    """The answers in the order of `names`; at most some dozens of pictures are held at once."""

    def look(some: Sequence[str]) -> list[Answer]:
        looked = look_at(predictor.finder, some, whole, allow_private)
        return settle(predictor, looked, whole)

    groups = [names[i : i + GROUP] for i in range(0, len(names), GROUP)]
    if not whole:
        predictor.finder.find(Image.new("L", (64, 64)))  # made once, before the threads
    with ThreadPoolExecutor(os.cpu_count() or 1, initializer=use_one_core) as pool:
        waiting: deque[Future[list[Answer]]] = deque()
        rest = iter(groups)
        try:
            while True:
                while len(waiting) < AHEAD and (group := next(rest, None)) is not None:
                    waiting.append(pool.submit(look, group))
                if not waiting:
                    return
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def look_at(
    finder: FaceFinder, names: Sequence[str], whole: bool, allow_private: bool
) -> list[Looked]:
    """Opens some pictures and finds their faces; those of one size go through together."""
    looked: list[Looked] = []
    for name in names:
        try:
            image = open_picture(name, longest=LONGEST, allow_private=allow_private)
            looked.append((Answer(name, image), []))
        except (OSError, ValueError) as error:
            looked.append((Answer(name, error=str(error)), []))
    if whole:
        return looked
    sizes: dict[tuple[int, int], list[Looked]] = {}
    for answer, faces in looked:
        if answer.image is not None:
            sizes.setdefault(answer.image.size, []).append((answer, faces))
    for alike in sizes.values():
        found = finder.find_batch([answer.image for answer, _ in alike])
        for (answer, faces), here in zip(alike, found, strict=True):
            faces += here or finder.find_tilted(answer.image)
    return looked


def settle(predictor: Any, looked: Sequence[Looked], whole: bool) -> list[Answer]:
    """Classifies all faces of some pictures in one batch."""
    good = [(answer, faces) for answer, faces in looked if answer.image is not None]
    images = [answer.image for answer, _ in good]
    if whole:
        probs = predictor.predict_batch(images)
        seen = [[Seen((0, 0, *image.size), p)] for image, p in zip(images, probs, strict=True)]
    else:
        seen = predictor.answer(images, [faces for _, faces in good])
    for (answer, _), here in zip(good, seen, strict=True):
        answer.seen = here
    return [answer for answer, _ in looked]


def answer_all(predictor: Any, args: argparse.Namespace) -> int:
    """Pictures, then videos; errors go to standard error, one line each. Returns the exit code."""
    names, failed = [], False
    for given in args.inputs:
        try:
            names += [name for name in expand([given]) if name not in set(names)]
        except (OSError, ValueError) as error:
            complain(str(error))
            failed = True
    videos = [name for name in names if is_video(name)]
    pictures = [name for name in names if not is_video(name)]
    report = Report(predictor.class_names, args, brief=len(pictures) > 10)
    bar = tqdm(total=len(pictures), unit="picture", disable=len(pictures) <= 10 or None)
    with report, bar:
        for answer in answer_pictures(predictor, pictures, args.whole, args.allow_private):
            bar.update()
            if answer.error:
                complain(answer.error)
                failed = True
            else:
                report.add(answer)
        report.finish()
        bar.close()
        for video in videos:
            try:
                with tqdm(unit="s", desc=Path(video).name, disable=None) as ticks:
                    told = watch(predictor, video, args.annotate or Path("out"), ticker(ticks))
                report.add_video(told)
            except (OSError, ValueError) as error:
                complain(str(error))
                failed = True
    return 2 if failed else 0


def complain(reason: str) -> None:
    tqdm.write(f"error: {reason}", file=sys.stderr)


class Report:
    """Where answers go: bars on the screen, or one JSON list; a CSV file; drawn pictures."""

    def __init__(self, class_names: Sequence[str], args: argparse.Namespace, brief: bool) -> None:
        self.class_names, self.args, self.brief = class_names, args, brief
        self.answers: list[dict[str, Any]] = []
        self.videos: list[dict[str, Any]] = []
        self.taken: set[Path] = set()

    def __enter__(self) -> "Report":
        self.file = None
        if self.args.csv:
            self.args.csv.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.args.csv.open("w", newline="", encoding="utf-8")
            self.table = csv.writer(self.file)
            place = ["x", "y", "width", "height", "score", "expression"]
            self.table.writerow(["picture", "face", *place, *self.class_names])
        if self.args.annotate:
            self.args.annotate.mkdir(parents=True, exist_ok=True)
        self.pool = ThreadPoolExecutor(os.cpu_count() or 1)
        self.saving: deque[Future[None]] = deque()
        return self

    def __exit__(self, *_: object) -> None:
        if self.file:
            self.file.close()
        self.pool.shutdown(cancel_futures=True)
        if self.args.json:
            print(json.dumps(self.answers + self.videos, indent=1))

    def add(self, answer: Answer) -> None:
        """One picture; boxes are told in pixels of the file."""
        if self.args.annotate:
            target = self.free(Path(answer.name.rstrip("/")).name or "picture")
            self.saving.append(self.pool.submit(save_drawn, answer, target))
            if len(self.saving) > AHEAD * GROUP:
                self.saving.popleft().result()
        times = answer.image.info.get("reduced", 1)
        seen = [replace(s, box=tuple(v * times for v in s.box)) for s in answer.seen]
        if self.file:
            rows = [
                [answer.name, i, *s.box, f"{s.score:.3f}", s.expression]
                + [f"{s.probs[name]:.4f}" for name in self.class_names]
                for i, s in enumerate(seen, 1)
            ]
            # A picture without a face has its row too: nothing that was asked is missing
            self.table.writerows(rows or [[answer.name, 0]])
        kept = [dict(list(s.probs.items())[: self.args.top_k]) for s in seen]
        if self.args.json:
            faces = [
                {"box": list(s.box), "score": s.score, "expression": s.expression,
                 "probabilities": probs}
                for s, probs in zip(seen, kept, strict=True)
            ]  # fmt: skip
            self.answers.append({"picture": answer.name, "faces": faces})
        elif self.brief:
            words = [f"{s.expression} {100 * s.probs[s.expression]:.0f} %" for s in seen]
            tqdm.write(f"{answer.name}: {', '.join(words) or 'no face found'}")
        else:
            show(answer.name, seen, kept)

    def finish(self) -> None:
        """Waits until the last picture is drawn; raises what went wrong there."""
        while self.saving:
            self.saving.popleft().result()

    def add_video(self, told: dict[str, Any]) -> None:
        self.videos.append(told)
        if not self.args.json:
            faces = f"{told['tracks']} face{'' if told['tracks'] == 1 else 's'}"
            print(
                f"{told['video']}: {told['frames']} frames, {told['seconds']:.1f} s, "
                f"{faces} followed; wrote {', '.join(told['files'])}"
            )

    def free(self, name: str) -> Path:
        """A file in the folder for drawn pictures that no other picture of this run has taken."""
        stem = "".join(c if c.isalnum() or c in "-_. " else "_" for c in Path(name).stem) or "_"
        path, number = self.args.annotate / f"{stem}.jpg", 2
        while path in self.taken:
            path, number = self.args.annotate / f"{stem}-{number}.jpg", number + 1
        self.taken.add(path)
        return path


def ticker(bar: Any) -> Progress:
    def tick(done: float, total: float | None) -> None:
        bar.total = round(total, 1) if total else None
        bar.n = round(done, 1)
        bar.refresh()

    return tick


def save_drawn(answer: Answer, target: Path) -> None:
    draw_faces(answer.image, answer.seen).save(target, quality=90)


def show(name: str, seen: Sequence[Seen], kept: Sequence[dict[str, float]]) -> None:
    print(name)
    if not seen:
        print("  no face found (a picture that is a face already, cropped: --whole)")
    for number, (face, probs) in enumerate(zip(seen, kept, strict=True), 1):
        if len(seen) > 1:
            x, y, width, height = face.box
            print(f"  face {number}, {width} × {height} at ({x}, {y})")
        for label, share in probs.items():
            print(f"  {label:10} {100 * share:5.1f} %  {'█' * round(share * 24)}")


def watch(
    predictor: Any,
    video: str,
    folder: Path,
    progress: Progress | None = None,
    max_seconds: float | None = None,
) -> dict[str, Any]:
    """One video → NAME.mp4 with boxes, NAME.csv and NAME.png (the timeline) in `folder`.

    `progress` is called with the seconds done and in all (None: unknown). Returns what was
    seen: frames, seconds, tracks (how many faces) and the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    out = {end: folder / f"{Path(video).stem}.{end}" for end in ("mp4", "csv", "png")}
    if out["mp4"].resolve() == Path(video).resolve():
        raise ValueError(f"{video} would be overwritten; give another folder with --annotate")
    summary = annotate_video(
        Path(video), predictor.follower(), class_names=predictor.class_names,
        video_out=out["mp4"], csv_out=out["csv"], draw=draw_faces, progress=progress,
        max_seconds=max_seconds,
    )  # fmt: skip
    names, rows = read_timeline(out["csv"])
    timeline_figure(rows, names, Path(video).name).savefig(out["png"], dpi=120)
    told = {"frames": summary.frames, "seconds": summary.seconds, "tracks": summary.tracks}
    return {"video": video, **told, "files": [str(path) for path in out.values()]}
