"""How far a video is watched, and how long it will take, for a progress bar."""

import time
from collections.abc import Callable

__all__ = ["DRAWING", "TimeLeft"]

WATCHED = 0.95  # of the bar; the rest is for the last frames to be written and the timeline drawn
DRAWING = "Drawing the timeline"
FIRST = 1.0  # second: an estimate before it would jump


class TimeLeft:
    """(share in [0, 1] or None where the length is unknown, words), from now on.

    Called with the seconds of video watched and in all.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.start = clock, clock()

    def __call__(self, done: float, total: float | None) -> tuple[float | None, str]:
        if not total:
            return None, f"{done:.0f} s of the video watched"
        if done >= total:
            return WATCHED, DRAWING
        words = f"{done:.0f} of {total:.0f} s watched"
        passed = self.clock() - self.start
        if passed >= FIRST and done > 0:
            words += f", {duration(passed / done * (total - done))} left"
        return WATCHED * done / total, words


def duration(seconds: float) -> str:
    """'about 7 s', 'about 2 min'; never 0."""
    if seconds < 90:
        return f"about {max(round(seconds), 1)} s"
    return f"about {round(seconds / 60)} min"
