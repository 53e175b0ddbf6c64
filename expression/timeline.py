"""The faces of a video as a CSV table, written row by row and read back for a figure."""

import csv
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

from expression.csv_cells import cell_of, text_of
from expression.face_prediction import FacePrediction
from expression.files import atomic_path

__all__ = ["Row", "Timeline", "read_timeline"]

COLUMNS = ("seconds", "frame", "track", "x", "y", "width", "height", "expression", "sure")
OLDER = COLUMNS[:-1]  # of tables before 0.2.0
POINTS = 2000  # of one track, kept for a figure
Row = tuple[float, "int | None", dict[str, float]]  # seconds, track, probs


class Timeline:
    """A CSV table of the faces in a video, a row per face and frame; a context manager.

    Columns: COLUMNS, then the probability of each class. `expression` is the most likely class;
    `sure` is false where that is shown as "not sure". The rows are written to a temporary file
    about every second; it gets its name on a clean exit. Raises OSError.
    """

    def __init__(self, path: Path | str, class_names: Sequence[str]) -> None:
        self.path = Path(path)
        self.class_names = tuple(class_names)
        self._stack = ExitStack()

    def __enter__(self) -> "Timeline":
        part = self._stack.enter_context(atomic_path(self.path))
        self._file = self._stack.enter_context(part.open("w", newline="", encoding="utf-8"))
        self._table = csv.writer(self._file)
        self._table.writerow([*COLUMNS, *map(cell_of, self.class_names)])
        self._flushed = monotonic()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def add(self, seconds: float, frame: int, face: FacePrediction) -> None:
        """Append a row. Raises ValueError when the probabilities are of other classes."""
        if face.probs.keys() != set(self.class_names):
            raise ValueError(
                f"a face has probabilities of {sorted(face.probs)}, "
                f"but the table {self.path} is of {sorted(self.class_names)}"
            )
        probs = [f"{face.probs[name]:.4f}" for name in self.class_names]
        track = "" if face.track is None else face.track
        sure = "true" if face.sure else "false"
        expression = cell_of(face.expression)
        self._table.writerow([f"{seconds:.3f}", frame, track, *face.box, expression, sure, *probs])
        if monotonic() - self._flushed >= 1:
            self._file.flush()
            self._flushed = monotonic()


def read_timeline(path: Path | str) -> tuple[tuple[str, ...], list[Row]]:
    """(class_names, rows by time) of a table; each track thinned evenly to POINTS rows.

    Raises FileNotFoundError, or ValueError for a file that is no such table.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no table at {path}")
    kept: dict[int | None, list[Row]] = {}
    stride: dict[int | None, int] = {}  # every how many rows of a track one is kept
    read: dict[int | None, int] = {}  # rows of a track read so far
    with path.open(newline="", encoding="utf-8") as file:
        table = csv.reader(file)
        header = next(table, [])
        columns = COLUMNS if tuple(header[: len(COLUMNS)]) == COLUMNS else OLDER
        if tuple(header[: len(columns)]) != columns:
            raise ValueError(f"{path} is not a table of faces; its columns must be {COLUMNS}, …")
        class_names = tuple(map(text_of, header[len(columns) :]))
        for cells in table:
            try:
                track = int(cells[2]) if cells[2] else None
                probs = map(float, cells[len(columns) :])
                row = float(cells[0]), track, dict(zip(class_names, probs, strict=True))
            except (IndexError, ValueError) as error:
                raise ValueError(f"{path}, line {table.line_num}, is broken ({error})") from None
            points = kept.setdefault(track, [])
            if read.get(track, 0) % stride.setdefault(track, 1) == 0:
                points.append(row)
            read[track] = read.get(track, 0) + 1
            if len(points) > POINTS:
                del points[1::2]
                stride[track] *= 2
    return class_names, sorted((r for rows in kept.values() for r in rows), key=lambda r: r[0])
