"""Expressions over time as a figure: one panel a face, probabilities stacked.

Needs matplotlib, which takes longer to import than most pictures take to answer; so this file is
imported when a figure is wanted.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from expression.drawing import COLOURS, OTHER, colour_of
from expression.face_prediction import NOT_SURE, is_sure

__all__ = ["timeline_figure"]

PANELS = 6  # tracks in a timeline
GAP = 1.0  # seconds after which a face counts as gone
UNSURE: dict[str, Any] = {"facecolor": (1, 1, 1, 0.6), "edgecolor": "#767676", "hatch": "///",
                          "linewidth": 0}  # fmt: skip
Row = tuple[float, "int | None", Mapping[str, float]]  # seconds, track, probs


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


def _draw_track(
    axes: Axes,
    times: np.ndarray,
    shares: np.ndarray,
    colours: Sequence[str],
    window: float,
    min_confidence: float,
) -> bool:
    """Whether some of the track is "not sure"; that part is drawn lighter, and hatched."""
    any_unsure = False
    for part in _segments(times):
        t, p = times[part], _smooth(times[part], shares[part], window)
        if t[-1] - t[0] < window / 2:  # too short to be visible: drawn half a window wide
            t, p = np.array([t[0], t[0] + window / 2]), np.repeat(p.mean(axis=0)[None], 2, axis=0)
        axes.stackplot(t, p.T, colors=colours, edgecolor="white", linewidth=0.4)
        if spans := _unsure_spans(t, p, min_confidence):
            axes.broken_barh(spans, (0, 1), **UNSURE)
            any_unsure = True
    return any_unsure


def timeline_figure(
    rows: Iterable[Row], class_names: Sequence[str], title: str, min_confidence: float = 0.0
) -> Figure:
    """Stacked probabilities over time, one panel for each of the six longest tracks.

    Rows are (seconds, track, probs), in any order. Nothing is drawn where a track is missing for
    more than a second. Where the largest probability, as drawn, lies below `min_confidence`, the
    area is lighter and hatched: "not sure". The figure is not registered in pyplot: it can be
    made in any thread, and its memory is freed with its last reference.
    """
    found: dict[int | None, list[tuple[float, list[float]]]] = {}
    for seconds, track, probs in rows:
        found.setdefault(track, []).append((seconds, [probs.get(n, 0.0) for n in class_names]))
    tracks = {}
    for track, points in found.items():
        points.sort(key=lambda point: point[0])
        tracks[track] = np.array([p[0] for p in points]), np.array([p[1] for p in points])

    def duration(track: int | None) -> float:
        times = tracks[track][0]
        return sum(float(times[part][-1] - times[part][0]) for part in _segments(times))

    shown = sorted(
        sorted(tracks, key=duration, reverse=True)[:PANELS], key=lambda t: tracks[t][0][0]
    )
    figure = Figure(figsize=(10, 1.4 + 1.25 * max(len(shown), 1.5)), dpi=110, layout="constrained")
    title_style = {"ha": "left", "fontsize": 13, "fontweight": "bold"}
    figure.suptitle(title, x=0.01, **title_style, parse_math=False)  # "$" is in file names too
    if not shown:
        axes = figure.subplots()
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no face was seen", ha="center", va="center", color="#767676")
        return figure

    start = min(tracks[track][0][0] for track in shown)
    end = max(tracks[track][0][-1] for track in shown)
    window = max(0.5, (end - start) / 200)
    colours = _palette(class_names)
    panels = figure.subplots(len(shown), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    any_unsure = False
    for axes, track in zip(panels, shown, strict=True):
        any_unsure |= _draw_track(axes, *tracks[track], colours, window, min_confidence)
        axes.set(xlim=(start, max(end, start + window / 2)), ylim=(0, 1), yticks=(0, 0.5, 1))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8, color="#767676")
        axes.set_facecolor("#f7f7f7")
        if track is not None:
            axes.set_title(f"#{track}", loc="left", fontsize=10, pad=3)
    xlabel = f"seconds (mean over {window:.1f} s"
    if len(tracks) > len(shown):
        xlabel += f"; the {len(shown)} longest of {len(tracks)} faces"
    panels[-1].set_xlabel(f"{xlabel})", fontsize=9)
    patches = [Patch(color=c, label=n) for n, c in zip(class_names, colours, strict=True)]
    if any_unsure:
        patches.insert(0, Patch(label=NOT_SURE, **UNSURE))
    figure.legend(handles=patches[::-1], loc="outside right upper", frameon=False, fontsize=9)
    return figure
