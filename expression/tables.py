"""Answers for programs: a CSV table with a row a face, and one JSON list. Both are written while
the run goes on, so that a long video needs no memory and an interrupted run keeps its answers.
"""

import csv
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from expression.csv_cells import cell_of
from expression.face_prediction import FacePrediction
from expression.files import shown

__all__ = ["COLUMNS", "FaceTable", "JsonAnswers", "face_row"]

PLACE = ("x", "y", "width", "height")
COLUMNS = ("source", "seconds", "track", "face", *PLACE, "score", "expression", "sure")
TEXTS = (COLUMNS.index("source"), COLUMNS.index("expression"))  # others may have chosen them


class FaceTable:
    """A CSV table: COLUMNS, then the probability of each class.

    `source` is the picture or video as it was given; `seconds` (from a video's start) and `track`
    (the number of a face in a video) are empty for pictures. `face` counts the faces of a picture
    or frame, the largest first; it is 0 in the one row of a picture or video without a face, so
    that every input that was read is in the table. Boxes are in pixels of the file. Names that a
    spreadsheet would run as a formula are stored with an apostrophe: see `expression.csv_cells`.
    """

    def __init__(self, file: TextIO, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        self.table = csv.writer(file)
        self.table.writerow([*COLUMNS, *map(cell_of, self.class_names)])

    def add(
        self, source: str, faces: Sequence[FacePrediction], seconds: float | None = None
    ) -> None:
        """The rows of a picture, or of one frame of a video."""
        for number, face in enumerate(faces, 1):
            row = face_row(source, number, face, self.class_names, seconds)
            for column in TEXTS:
                row[column] = cell_of(row[column])
            self.table.writerow(row)

    def add_empty(self, source: str) -> None:
        """The row of a picture or video without a face."""
        empty = [""] * (len(COLUMNS) - 4 + len(self.class_names))
        self.table.writerow([cell_of(shown(source)), "", "", 0, *empty])


def face_row(
    source: str,
    number: int,
    face: FacePrediction,
    class_names: Sequence[str],
    seconds: float | None = None,
) -> list[str]:
    """A face's cells as text: of COLUMNS, then of each class; `number` counts from 1."""
    time = "" if seconds is None else f"{seconds:.3f}"
    track = "" if face.track is None else str(face.track)
    place = map(str, face.box)
    sure = "true" if face.sure else "false"
    about = [time, track, str(number), *place, f"{face.score:.3f}", face.expression, sure]
    return [shown(source), *about, *(f"{face.probs[name]:.4f}" for name in class_names)]


def face_entry(face: FacePrediction, top_k: int | None) -> dict[str, Any]:
    """A face as JSON holds it, with its `top_k` most likely classes; None: all."""
    return {
        "box": list(face.box),
        "score": finite(face.score),
        "expression": face.expression,
        "sure": face.sure,
        "probabilities": {n: finite(p) for n, p in list(face.probs.items())[:top_k]},
    }


def finite(value: float) -> float | None:
    """The number itself; None for NaN and infinities, which JSON does not have."""
    return value if math.isfinite(value) else None


class JsonAnswers:
    """One JSON list on a stream; a context manager, so that the list always ends.

    A picture is {"picture", "faces"}, a video {"video", "faces", "frames", "seconds", "tracks",
    "expressions", "not_sure", "files"}; its faces have "seconds" and "track" too. A video that
    ended early has "error" in place of what comes after its faces.
    """

    def __init__(self, top_k: int | None = None, stream: TextIO | None = None) -> None:
        self.top_k, self.stream = top_k, stream or sys.stdout
        self.entries = self.faces = 0  # so far: in the list, and of the open video
        self.video = ""  # the one whose faces are being written

    def __enter__(self) -> "JsonAnswers":
        self.stream.write("[")
        return self

    def __exit__(self, *error: Any) -> None:
        self.end_video({"error": "interrupted"})
        self.stream.write("\n]\n")
        self.stream.flush()

    def add_picture(self, name: str, faces: Sequence[FacePrediction]) -> None:
        entries = [face_entry(face, self.top_k) for face in faces]
        self._next_entry()
        self.stream.write(dumped({"picture": shown(name), "faces": entries}, indent=1))

    def add_frame(self, video: str, seconds: float, faces: Sequence[FacePrediction]) -> None:
        """The faces of one frame; frames of one video come one after the other."""
        if not self.video:
            self._next_entry()
            self.stream.write(f'{{"video": {dumped(shown(video))}, "faces": [')
            self.video, self.faces = video, 0
        for face in faces:
            entry = {"seconds": round(seconds, 3), "track": face.track}
            self.stream.write(",\n " if self.faces else "\n ")
            self.stream.write(dumped(entry | face_entry(face, self.top_k)))
            self.faces += 1

    def end_video(self, rest: Mapping[str, Any]) -> None:
        """Close the entry of the open video with what is known of the whole; nothing if none is."""
        if not self.video:
            return
        about = {key: value for key, value in rest.items() if key != "video"}
        self.stream.write(f"], {dumped(about)[1:]}")
        self.video = ""

    def _next_entry(self) -> None:
        self.stream.write(",\n" if self.entries else "\n")
        self.entries += 1


def dumped(value: Any, indent: int | None = None) -> str:
    """JSON in ASCII, so that any terminal takes it."""
    return json.dumps(value, indent=indent, allow_nan=False)
