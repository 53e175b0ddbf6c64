"""Figures of `Expression_evidence.ipynb`: shares with intervals, differences, yardsticks, needs.

Their look is that of `lab.plots`: the same colours, a caption that states the point, and 9 inches
at most, which is the width that a page shows. Every share has the 95 % interval of its k and n.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from lab.calibration import reliability_bins, risk_coverage
from lab.calibration_plots import draw_risk, reliability
from lab.metrics import wilson
from lab.plots import COLOURS, GRAY, baseline, caption, clean, picture_grid, show_face

__all__ = [
    "bars",
    "confidence",
    "differences",
    "dots",
    "map_rows",
    "needs",
    "panels",
    "yardsticks",
]

PERCENT = PercentFormatter(1, decimals=0, symbol=" %")
MARKERS = "osD^vP"
WIDTH = 9.0  # inches

Counts = Mapping[str, tuple[int, int]]  # series → (k, n)


def dots(
    groups: Mapping[str, Counts],
    point: str,
    *,
    ylabel: str,
    line: tuple[float, str] | None = None,
    ylim: tuple[float, float] = (0, 1),
    height: float = 3.6,
) -> Figure:
    """Shares k/n with their intervals: a column for each group, a colour for each series.

    `line` is a baseline and its name. A series may lack some of the groups.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    series = draw_dots(axes, groups)
    axes.set(ylim=ylim, ylabel=ylabel)
    if line:
        baseline(axes, *line)
    legend(figure, axes, len(series))
    caption(figure, point)
    return figure


def panels(
    each: Mapping[str, Mapping[str, Counts]],
    point: str,
    *,
    ylabel: str,
    ylim: tuple[float, float],
    line: float,
) -> Figure:
    """Several figures of `dots`, two in a row, with one y-range and a dashed line at `line`."""
    rows = -(-len(each) // 2)
    figure, grid = plt.subplots(rows, 2, figsize=(WIDTH, 0.8 + 2.7 * rows), sharey=True,
                                layout="constrained", squeeze=False)  # fmt: skip
    for axes in grid.flat[len(each) :]:
        axes.axis("off")
    for axes, (title, groups) in zip(grid.flat, each.items(), strict=False):
        series = draw_dots(axes, groups)
        axes.tick_params(axis="x", labelsize=8)
        axes.set_title(title, fontsize=10)
        axes.set_ylim(ylim)
        baseline(axes, line, "")
    for axes in grid[:, 0]:
        axes.set_ylabel(ylabel)
    legend(figure, grid[0, 0], len(series))
    caption(figure, point)
    return figure


def draw_dots(axes: Axes, groups: Mapping[str, Counts]) -> list[str]:
    """The marks of `dots`; returns the names of the series."""
    series = list(dict.fromkeys(name for counts in groups.values() for name in counts))
    places = 0.18 * (np.arange(len(series)) - (len(series) - 1) / 2)
    for number, name in enumerate(series):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        for x, counts in enumerate(groups.values()):
            if name in counts:
                interval(axes, x + places[number], counts[name], colour, marker)
        axes.plot([], [], marker + "-", color=colour, label=name)
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.set_xticks(range(len(groups)), [in_two_lines(name) for name in groups], fontsize=9)
    axes.tick_params(axis="x", length=0)
    axes.yaxis.set_major_formatter(PERCENT)
    clean(axes)
    return series


def in_two_lines(name: str, most: int = 17) -> str:
    """A long name of a network broken before the - or _ nearest to its middle."""
    breaks = [place for place, sign in enumerate(name) if sign in "-_"]
    if len(name) <= most or "\n" in name or not breaks:
        return name
    place = min(breaks, key=lambda each: abs(each - len(name) / 2))
    return f"{name[:place]}\n{name[place:]}"


def legend(figure: Figure, axes: Axes, count: int) -> None:
    """The names of the series above the figure; one series needs none."""
    if count > 1:
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=4, fontsize=9,
                      frameon=False)  # fmt: skip


def interval(axes: Axes, x: float, counts: tuple[int, int], colour: str, marker: str) -> None:
    """One share as a mark, with its interval as a line."""
    k, n = counts
    low, high = wilson(k, n)
    axes.vlines(x, low, high, color=colour, linewidth=2, alpha=0.8)
    axes.plot(x, k / n, marker, color=colour, markersize=6)


def bars(
    figures: Mapping[str, Mapping[str, float]], point: str, *, ylabel: str, height: float = 3.4
) -> Figure:
    """Shares without an interval: a group of bars for each class, a colour for each series."""
    names = list(dict.fromkeys(name for values in figures.values() for name in values))
    figure, axes = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    width = 0.8 / len(figures)
    for number, (series, values) in enumerate(figures.items()):
        places = np.arange(len(names)) + (number - (len(figures) - 1) / 2) * width
        drawn = axes.bar(places, [values.get(name, np.nan) for name in names], 0.92 * width,
                         color=COLOURS[number % len(COLOURS)], label=series)  # fmt: skip
        axes.bar_label(drawn, fmt=lambda share: f"{100 * share:.0f}", fontsize=7, padding=1)
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(0, 1), ylabel=ylabel)
    axes.set_xticks(range(len(names)), names, fontsize=9)
    axes.tick_params(axis="x", length=0)
    axes.yaxis.set_major_formatter(PERCENT)
    clean(axes)
    figure.legend(loc="outside upper center", ncols=5, fontsize=9, frameon=False)
    caption(figure, point)
    return figure


def differences(
    rows: Mapping[str, tuple[float, float | None, float | None]], point: str, *, xlabel: str
) -> Figure:
    """Differences with their intervals (mean, low, high), the first on top, and a line at none.

    A difference without an interval (None) is hollow: one pair says nothing about its spread.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, 1.2 + 0.34 * len(rows)), layout="constrained")
    axes.axvline(0, color=GRAY, linestyle="--", linewidth=1, label="no difference")
    for y, (mean, low, high) in enumerate(rows.values()):
        if low is None or high is None:
            axes.plot(mean, y, "o", color=GRAY, markerfacecolor="none", markersize=7)
            continue
        colour = COLOURS[1] if low > 0 or high < 0 else COLOURS[0]
        axes.hlines(y, low, high, color=colour, linewidth=2)
        axes.plot(mean, y, "o", color=colour, markersize=7)
    axes.plot([], [], "o-", color=COLOURS[1], label="interval leaves out 0")
    axes.plot([], [], "o-", color=COLOURS[0], label="interval includes 0")
    if any(low is None for _, low, _ in rows.values()):
        axes.plot([], [], "o", color=GRAY, markerfacecolor="none", label="one pair, no interval")
    axes.set_yticks(range(len(rows)), list(rows), fontsize=9)
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=xlabel)
    clean(axes, "x")
    figure.legend(loc="outside upper center", ncols=4, fontsize=9, frameon=False)
    caption(figure, point)
    return figure


def needs(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    marks: Mapping[str, float],
    point: str,
    *,
    ylabel: str,
) -> Figure:
    """How many are needed (logarithmic) for a difference in points; `marks` are known sizes."""
    figure, axes = plt.subplots(figsize=(WIDTH, 3.6), layout="constrained")
    for colour, style, (name, (points, counts)) in zip(
        cycle(COLOURS), cycle(("-", "--", "-.", ":")), curves.items(), strict=False
    ):
        axes.plot(points, counts, style, color=colour, label=name)
    for name, value in marks.items():
        baseline(axes, value, name, side="right")
    axes.set(yscale="log", xlabel="difference of accuracy (points)", ylabel=ylabel)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlim(0, None)
    clean(axes, "both")
    figure.legend(loc="outside upper center", ncols=4, fontsize=9, frameon=False)
    caption(figure, point)
    return figure


def yardsticks(
    points: Mapping[str, tuple[float, float]],
    curve: tuple[Sequence[float], Sequence[float]],
    point: str,
    *,
    xlabel: str,
    ylabel: str,
    curve_name: str,
) -> Figure:
    """Two figures of each network against one another, and a curve of mixtures of two of them.

    Both axes have the same scale; the dashed line is where both yardsticks say the same.
    """
    figure, axes = plt.subplots(figsize=(7.2, 5.4), layout="constrained")
    axes.plot(*curve, ".-", color=GRAY, linewidth=1, label=curve_name)
    for number, (name, (x, y)) in enumerate(points.items()):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[(number // 2) % len(MARKERS)]
        axes.plot(x, y, marker, color=colour, markersize=8, label=name)
    values = np.array([*points.values(), *zip(*curve, strict=True)])
    bounds = np.floor(20 * values.min() - 0.2) / 20, np.ceil(20 * values.max() + 0.2) / 20
    axes.plot(bounds, bounds, "--", color=GRAY, linewidth=1, label="both say the same")
    axes.set(xlim=bounds, ylim=bounds, xlabel=xlabel, ylabel=ylabel, aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PERCENT)
    clean(axes, "both")
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    caption(figure, point)
    return figure


def confidence(
    panels: Mapping[str, tuple[np.ndarray, np.ndarray]], threshold: float, point: str
) -> Figure:
    """Reliability of several probabilities (n, C) with labels (n,), side by side, and the mistakes
    by coverage of the last of them, with the threshold of "not sure" marked."""
    count = len(panels) + 1
    figure, axes = plt.subplots(1, count, figsize=(WIDTH, 3.5), layout="constrained")
    for place, (title, (probs, labels)) in zip(axes, panels.items(), strict=False):
        reliability(place, reliability_bins(probs, labels), title)
        place.set_xticks((0, 0.5, 1))
    probs, labels = list(panels.values())[-1]
    draw_risk(axes[-1], *risk_coverage(probs, labels), probs.max(1), threshold)
    axes[-1].set_xticks((0, 0.5, 1))
    for place in axes:
        place.set_title(place.get_title(), fontsize=9)
        place.xaxis.label.set_size(9)
        place.yaxis.label.set_size(9)
    caption(figure, point)
    return figure


def map_rows(
    pictures: Sequence[np.ndarray],
    titles: Sequence[str],
    right: Sequence[bool],
    maps: Sequence[Sequence[np.ndarray]],
    point: str,
) -> Figure:
    """Pictures with titles, mistakes in red, and below them a row for each list of overlays."""
    count = 1 + len(maps)
    figure, grid = picture_grid(count, len(pictures), (WIDTH, 0.5 + 1.25 * count))
    for column, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        show_face(grid[0, column], picture, title, "black" if right[column] else "#b00000")
        for row, shown in enumerate(maps, 1):
            grid[row, column].imshow(shown[column])
    caption(figure, point)
    return figure
