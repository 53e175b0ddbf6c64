"""Expressions over time: what a timeline shows, one panel a face, before anything is drawn.

`expression.timeline_picture` draws it. What is shown and how it looks are apart, so that tests ask
for seconds and shares instead of pixels.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from expression.drawing import COLOURS, OTHER, colour_of
from expression.face_prediction import is_sure

__all__ = ["Area", "Panel", "TimelineFigure", "timeline_figure"]

PANELS = 6  # tracks in a timeline
GAP = 1.0  # seconds after which a face counts as gone
Row = tuple[float, "int | None", Mapping[str, float]]  # seconds, track, probs
Track = tuple[np.ndarray, np.ndarray]  # times (N,), shares (N, C)


@dataclass(frozen=True)
class Area:
    """A stretch of a track without a gap: the shares of the classes are stacked there."""

    times: np.ndarray  # (N,) seconds, sorted
    shares: np.ndarray  # (N, C), smoothed, in the order of the figure's class names
    unsure: list[tuple[float, float]]  # (start, seconds) of what names no expression

    @property
    def start(self) -> float:
        return float(self.times[0])

    @property
    def end(self) -> float:
        return float(self.times[-1])


@dataclass(frozen=True)
class Panel:
    """One face: its number (None: faces are not numbered) and where it was seen."""

    track: int | None
    areas: list[Area]


@dataclass(frozen=True)
class TimelineFigure:
    """A timeline in figures, its panels in the order of appearance."""

    title: str
    class_names: tuple[str, ...]
    colours: tuple[str, ...]  # '#rrggbb' by class
    panels: list[Panel]
    xlabel: str = ""

    @property
    def any_unsure(self) -> bool:
        return any(area.unsure for panel in self.panels for area in panel.areas)

    @property
    def limits(self) -> tuple[float, float]:
        """First and last second that is shown. Raises ValueError when no face was seen."""
        areas = [area for panel in self.panels for area in panel.areas]
        return min(area.start for area in areas), max(area.end for area in areas)


def _segments(times: np.ndarray) -> list[slice]:
    """Runs of times (N,) without a gap. A thinned long track may step wider than GAP."""
    steps = np.diff(times)
    gap = GAP if len(times) < 1000 else max(GAP, 2.5 * float(np.median(steps)))
    edges = [0, *(np.flatnonzero(steps > gap) + 1).tolist(), len(times)]
    return [slice(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]


def _smooth(times: np.ndarray, shares: np.ndarray, window: float) -> np.ndarray:
    """Mean of shares (N, C) over `window` seconds around each of the sorted times (N,)."""
    sums = np.vstack([np.zeros(shares.shape[1]), shares.cumsum(axis=0)])
    first = np.searchsorted(times, times - window / 2, "left")
    last = np.searchsorted(times, times + window / 2, "right")
    return (sums[last] - sums[first]) / (last - first)[:, None]


def _palette(class_names: Sequence[str]) -> list[str]:
    """A colour for each class; unknown names take the colours that no known name uses."""
    used = {colour_of(name) for name in class_names}
    spare = iter([colour for colour in COLOURS.values() if colour not in used])
    return [COLOURS.get(name.lower()) or next(spare, OTHER) for name in class_names]


def _unsure_spans(
    times: np.ndarray, shares: np.ndarray, min_confidence: float
) -> list[tuple[float, float]]:
    """(start, seconds) of each stretch of times (N,) whose shares (N, C) name no expression."""
    middles = (times[1:] + times[:-1]) / 2
    edges = [times[0], *middles, times[-1]]  # each time counts until halfway to the next
    unsure = [not is_sure(share, min_confidence) for share in shares.max(axis=1)]
    changes = np.flatnonzero(np.diff([False, *unsure, False])).tolist()
    return [
        (float(edges[a]), float(edges[b] - edges[a]))
        for a, b in zip(changes[::2], changes[1::2], strict=True)
    ]


def _areas(track: Track, window: float, min_confidence: float) -> list[Area]:
    """The stretches of a track; one that is too short to be visible is drawn half a window wide."""
    times, shares = track
    areas = []
    for part in _segments(times):
        t, p = times[part], _smooth(times[part], shares[part], window)
        if t[-1] - t[0] < window / 2:
            t, p = np.array([t[0], t[0] + window / 2]), np.repeat(p.mean(axis=0)[None], 2, axis=0)
        areas.append(Area(t, p, _unsure_spans(t, p, min_confidence)))
    return areas


def _tracks(rows: Iterable[Row], class_names: Sequence[str]) -> dict[int | None, Track]:
    """The rows by track, sorted by time."""
    found: dict[int | None, list[tuple[float, list[float]]]] = {}
    for seconds, track, probs in rows:
        found.setdefault(track, []).append((seconds, [probs.get(n, 0.0) for n in class_names]))
    tracks = {}
    for track, points in found.items():
        points.sort(key=lambda point: point[0])
        tracks[track] = np.array([p[0] for p in points]), np.array([p[1] for p in points])
    return tracks


def timeline_figure(
    rows: Iterable[Row], class_names: Sequence[str], title: str, min_confidence: float = 0.0
) -> TimelineFigure:
    """Stacked probabilities over time, one panel for each of the six longest tracks.

    Rows are (seconds, track, probs), in any order. Nothing is shown where a track is missing for
    more than a second. Where the largest probability, as shown, lies below `min_confidence`, the
    area is marked "not sure".
    """
    tracks = _tracks(rows, class_names)

    def duration(track: int | None) -> float:
        times = tracks[track][0]
        return sum(float(times[part][-1] - times[part][0]) for part in _segments(times))

    shown = sorted(
        sorted(tracks, key=duration, reverse=True)[:PANELS], key=lambda t: tracks[t][0][0]
    )
    names, colours = tuple(class_names), tuple(_palette(class_names))
    if not shown:
        return TimelineFigure(title, names, colours, [])
    start = min(tracks[track][0][0] for track in shown)
    end = max(tracks[track][0][-1] for track in shown)
    window = max(0.5, float(end - start) / 200)
    panels = [Panel(track, _areas(tracks[track], window, min_confidence)) for track in shown]
    xlabel = f"seconds (mean over {window:.1f} s"
    if len(tracks) > len(shown):
        xlabel += f"; the {len(shown)} longest of {len(tracks)} faces"
    return TimelineFigure(title, names, colours, panels, f"{xlabel})")
