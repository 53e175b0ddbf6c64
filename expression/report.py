"""How a run reports its answers: on the screen, to programs, as drawn pictures and sorted copies.

Only what was asked for is written to files.
"""

import os
import sys
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from expression.about import not_sure_words
from expression.drawing import draw_faces
from expression.face_detector import FINER_SMALLEST
from expression.face_prediction import FacePrediction, enlarged
from expression.file_kinds import is_url
from expression.files import shown
from expression.output_files import (
    OutputFiles,
    OutputGroup,
    check_folder,
    safe_stem,
    save_picture,
)
from expression.picture_batches import PictureAnswer
from expression.pictures import reduced
from expression.sorting import class_folder, copy_picture, reserve_copy
from expression.summary import Tally, bar, no_face_words, video_words
from expression.tables import FaceTable, JsonAnswers

__all__ = ["Report", "Wanted"]

WAITING = 48  # drawn pictures and copies that may wait to be saved


@dataclass(frozen=True)
class Wanted:
    """What a run was asked to give."""

    table: Path | None = None  # a CSV file
    annotate: Path | None = None  # a folder for drawn pictures
    sort_into: Path | None = None  # a folder for copies, a class each
    as_json: bool = False  # instead of lines to read
    top_k: int | None = None  # classes that are shown; None: all
    brief: bool = False  # a line a picture
    smallest: float = FINER_SMALLEST  # the smallest face looked for, as a share of the picture


class Report:
    """Tells and writes the answers of a run; a context manager.

    Raises OSError where something cannot be written.
    """

    def __init__(self, class_names: Sequence[str], files: OutputFiles, wanted: Wanted) -> None:
        self.class_names, self.files, self.wanted = class_names, files, wanted
        self.tally = Tally(wanted.smallest)
        self.table: FaceTable | None = None
        self.json: JsonAnswers | None = None
        self.unsorted = 0  # pictures from the web
        self.videos = 0  # that were followed to their end
        self.unwritten = False  # whether there was a video of which no file is left

    def __enter__(self) -> "Report":
        wanted = self.wanted
        for folder in filter(None, (wanted.annotate, wanted.sort_into)):
            check_folder(folder)
        with ExitStack() as stack:
            if wanted.table:
                file = stack.enter_context(self.files.text(wanted.table))
                self.table = FaceTable(file, self.class_names)
            if wanted.as_json:
                self.json = stack.enter_context(JsonAnswers(wanted.top_k))
            self.stack = stack.pop_all()
        self.pool = ThreadPoolExecutor(os.cpu_count() or 1)
        self.saving: deque[Future[None]] = deque()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.pool.shutdown(cancel_futures=True)
        finally:
            self.stack.close()
        notes = self.files.notes()
        if self.unsorted:
            count = "1 picture is" if self.unsorted == 1 else f"{self.unsorted} pictures are"
            notes.append(f"{count} from the web; only files are copied")
        if self.videos and self.wanted.sort_into:
            count = "1 video is" if self.videos == 1 else f"{self.videos} videos are"
            notes.append(f"{count} not sorted; only pictures are")
        if self.unwritten:
            notes.append("to keep a video's answers: --csv FILE, and --annotate DIR draws them")
        for note in notes:
            tqdm.write(note, file=sys.stderr)

    # --- pictures ---

    def add(self, answer: PictureAnswer) -> None:
        """Report one picture; boxes are in pixels of the file."""
        name, image = answer.name, answer.opened()
        if self.wanted.annotate:
            stem = safe_stem(Path(Path(name.rstrip("/")).name or "picture").stem)
            drawing = self.files.reserve(self.wanted.annotate, stem, [".jpg"])
            self._save(self.pool.submit(save_drawn, answer, drawing))
        if self.wanted.sort_into and is_url(name):
            self.unsorted += 1
        elif self.wanted.sort_into:
            label = class_folder(answer.faces)
            copy = reserve_copy(self.files, self.wanted.sort_into, name, label)
            self._save(self.pool.submit(copy_picture, Path(name), copy))
        times = reduced(image)
        size = image.width * times, image.height * times
        faces = [enlarged(face, times) for face in answer.faces]
        self.tally.add(faces, size)
        if self.table:
            self.table.add(name, faces)
            if not faces:
                self.table.add_empty(name)
        if self.json:
            self.json.add_picture(name, faces)
        elif self.wanted.brief:
            words = [brief_words(f) for f in faces]
            tqdm.write(shown(f"{name}: {', '.join(words) or 'no face found'}"))
        else:
            show(shown(name), faces, size, self.wanted)

    def _save(self, task: Future[None]) -> None:
        self.saving.append(task)
        if len(self.saving) > WAITING:
            self.saving.popleft().result()

    def add_unread(self, name: str) -> None:
        """A picture that could not be opened; the reason is told elsewhere."""
        self.tally.add_unread(name)

    def finish(self) -> None:
        """Wait until the last picture is saved (an error there is raised here), then sum up."""
        while self.saving:
            self.saving.popleft().result()
        if not self.json:
            for line in self.tally.lines():
                print(shown(line))

    # --- videos ---

    def add_frame(self, video: str, seconds: float, faces: Sequence[FacePrediction]) -> None:
        """The faces of one frame; boxes are in pixels of the file."""
        if self.table:
            self.table.add(video, faces, seconds)
        if self.json:
            self.json.add_frame(video, seconds, faces)

    def add_video(self, video: str, summary: dict[str, Any]) -> None:
        """The end of a video; `summary` is that of `expression.video_files.follow_video`."""
        self.videos += 1
        if self.table and not summary["tracks"]:
            self.table.add_empty(video)
        if self.json:
            self.json.end_video(summary)
        else:
            print(shown(video_words(summary)))
            self.unwritten = not (self.table or self.wanted.annotate)

    def add_broken_video(self, error: str) -> None:
        """A video that could not be read, or not to its end."""
        if self.json:
            self.json.end_video({"error": shown(error)})


def brief_words(face: FacePrediction) -> str:
    """'happy 91 %', or 'not sure (sad 38 %)'."""
    words = f"{face.expression} {100 * face.confidence:.0f} %"
    return words if face.sure else f"{face.label} ({words})"


def save_drawn(answer: PictureAnswer, group: OutputGroup) -> None:
    with group:
        drawn = draw_faces(answer.opened(), answer.faces)
        save_picture(drawn, group.path(".jpg"), quality=90)
        group.keep(".jpg")


def show(name: str, faces: Sequence[FacePrediction], size: tuple[int, int], wanted: Wanted) -> None:
    print(name)
    if not faces:
        print(f"  no face found ({no_face_words(size, wanted.smallest)})")
    for number, face in enumerate(faces, 1):
        if len(faces) > 1:
            x, y, width, height = face.box
            print(f"  face {number}, {width} × {height} at ({x}, {y})")
        if not face.sure:
            print(f"  {shown(face.label)}: {not_sure_words(face.min_confidence)}")
        for label, share in list(face.probs.items())[: wanted.top_k]:
            print(f"  {shown(label):10} {100 * share:5.1f} %  {bar(share)}")
