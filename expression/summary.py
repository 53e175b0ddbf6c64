"""What a whole run found, in a few lines: expressions of all pictures, and of each video."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from expression.about import not_sure_share
from expression.face_detector import SMALLEST_FACE
from expression.face_prediction import FacePrediction
from expression.files import shown
from expression.terminal import can_print

__all__ = ["Tally", "bar", "no_face_words", "video_words"]

NAMED = 5  # files that could not be read, in the summary


def bar(share: float) -> str:
    """A bar for a share in [0, 1]; of "#" where the terminal has no block."""
    if math.isnan(share):
        return ""
    return round(share * 24) * ("█" if can_print("█") else "#")


def no_face_words(size: tuple[int, int], smallest: float) -> str:
    """What to try where no face was found in a picture of this size in pixels.

    `smallest` is the smallest face that was looked for, as a share of the longer side. Half of it
    is worth a try where faces of that size are large enough to be read.
    """
    whole = "a picture that is a face already, cropped: --whole"
    if max(size) * smallest <= SMALLEST_FACE:
        return whole
    return f"smaller faces: --smallest {finer(smallest)}; {whole}"


def finer(smallest: float) -> str:
    return f"{smallest / 2:.2g}"


class Tally:
    """Counts the pictures of a run and the expressions that they show."""

    def __init__(self, smallest: float) -> None:
        self.smallest = smallest
        self.pictures = self.empty = 0
        self.unread: list[str] = []
        self.finer_helps = False
        self.labels: Counter[str] = Counter()

    def add(self, faces: Sequence[FacePrediction], size: tuple[int, int]) -> None:
        """One picture; `size` in pixels of the file."""
        self.pictures += 1
        self.labels.update(face.label for face in faces)
        if not faces:
            self.empty += 1
            self.finer_helps |= max(size) * self.smallest > SMALLEST_FACE

    def add_unread(self, name: str) -> None:
        """A picture that could not be opened."""
        self.unread.append(shown(name))

    def lines(self) -> list[str]:
        """The summary of the pictures; [] for a single one, which was just shown."""
        count = self.pictures + len(self.unread)
        if count < 2:
            return []
        total = self.labels.total()
        faces = "1 face" if total == 1 else f"{total} faces"
        lines = ["", f"{count} pictures, {faces}"]
        width = max((len(label) for label in self.labels), default=0)
        for label, count in self.labels.most_common():
            share = count / total
            row = f"  {label:{max(width, 10)}} {count:6}  {100 * share:5.1f} %  {bar(share)}"
            lines.append(row.rstrip())
        if self.empty:
            lines.append(f"  no face found in {self.empty} of them")
            if self.finer_helps:
                lines[-1] += f" (smaller faces: --smallest {finer(self.smallest)})"
        if self.unread:
            more = ["…"] if len(self.unread) > NAMED else []
            names = ", ".join([*self.unread[:NAMED], *more])
            lines.append(f"  {len(self.unread)} could not be read: {names}")
        return lines


def video_words(summary: Mapping[str, Any]) -> str:
    """A video in one line; `summary` is that of `expression.video_files.follow_video`."""
    faces = "1 face" if summary["tracks"] == 1 else f"{summary['tracks']} faces"
    words = f"{summary['frames']} frames, {summary['seconds']:.1f} s, {faces} followed"
    total = sum(summary["expressions"].values()) + summary["not_sure"]
    shares = [f"{label} {100 * n / total:.0f} %" for label, n in summary["expressions"].items()]
    told = [words + (f": {', '.join(shares)}" if shares else "")]
    told += [part for part in (not_sure_share(summary),) if part]
    line = f"{summary['video']}: {', '.join(told)}"
    return line + (f"; wrote {', '.join(summary['files'])}" if summary["files"] else "")
