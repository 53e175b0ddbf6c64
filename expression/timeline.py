"""What was seen in a video as a CSV table, written as it comes and read back for a figure."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from expression.face_prediction import FacePrediction

__all__ = ["InPlace", "Row", "Timeline", "read_timeline"]

COLUMNS = ("seconds", "frame", "track", "x", "y", "width", "height", "expression")
POINTS = 2000  # of one track, kept for a figure
Row = tuple[float, "int | None", dict[str, float]]  # seconds, track, probs


class InPlace:
    """A file under a temporary name that gets its own name on a clean exit, else goes."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")

    def _finish(self, clean: bool) -> None:
        raise NotImplementedError

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._finish(kind is None)
            if kind is None and self._temporary.exists():
                os.replace(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)


class Timeline(InPlace):
    """A CSV table of what was seen, a row per face and frame; a context manager.

    Columns: COLUMNS, then the probability of each class. The rows reach the disk about
    every second, under a temporary name until the end. Raises OSError.
    """

    def __init__(self, path: Path | str, class_names: Sequence[str]) -> None:
        super().__init__(path)
        self.class_names = tuple(class_names)

    def __enter__(self) -> "Timeline":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._temporary.open("w", newline="", encoding="utf-8")
        self._table = csv.writer(self._file)
        self._table.writerow([*COLUMNS, *self.class_names])
        self._flushed = monotonic()
        return self

    def add(self, seconds: float, frame: int, seen: FacePrediction) -> None:
        """Append a row. Raises ValueError when the probabilities are of other classes."""
        if seen.probs.keys() != set(self.class_names):
            raise ValueError(
                f"a face has probabilities of {sorted(seen.probs)}, "
                f"but the table {self.path} is of {sorted(self.class_names)}"
            )
        shares = [f"{seen.probs[name]:.4f}" for name in self.class_names]
        track = "" if seen.track is None else seen.track
        self._table.writerow(
            [f"{seconds:.3f}", frame, track, *seen.box, next(iter(seen.probs), ""), *shares]
        )
        if monotonic() - self._flushed >= 1:
            self._file.flush()
            self._flushed = monotonic()

    def _finish(self, clean: bool) -> None:
        self._file.close()


def read_timeline(path: Path | str) -> tuple[tuple[str, ...], list[Row]]:
    """(class_names, rows by time) of a table; each track thinned evenly to POINTS rows.

    Raises FileNotFoundError, or ValueError for a file that is no such table.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no table at {path}")
    kept: dict[int | None, list[Row]] = {}
    stride: dict[int | None, int] = {}
    met: dict[int | None, int] = {}
    with path.open(newline="", encoding="utf-8") as file:
        table = csv.reader(file)
        header = next(table, [])
        if tuple(header[: len(COLUMNS)]) != COLUMNS:
            raise ValueError(f"{path} is no table of faces; its columns must be {COLUMNS}, …")
        class_names = tuple(header[len(COLUMNS) :])
        for cells in table:
            try:
                track = int(cells[2]) if cells[2] else None
                shares = map(float, cells[len(COLUMNS) :])
                row = float(cells[0]), track, dict(zip(class_names, shares, strict=True))
            except (IndexError, ValueError) as error:
                raise ValueError(f"{path}, line {table.line_num}, is broken ({error})") from None
            points = kept.setdefault(track, [])
            if met.get(track, 0) % stride.setdefault(track, 1) == 0:
                points.append(row)
            met[track] = met.get(track, 0) + 1
            if len(points) > POINTS:
                del points[1::2]
                stride[track] *= 2
    return class_names, sorted((r for rows in kept.values() for r in rows), key=lambda r: r[0])
