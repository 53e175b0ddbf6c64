"""Figures of confidence: reliability, risk and coverage, and what an answer of several heads gives.

Reliability diagrams after Guo et al. 2017 (arXiv:1706.04599), risk–coverage curves after Geifman
and El-Yaniv 2017 (arXiv:1705.08500). Their look is that of `lab.plots`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lab.calibration import Bins, reliability_bins, risk_coverage
from lab.calibration_data import scaled_probabilities
from lab.plots import COLOURS, GRAY, caption, clean
from lab.results import Result

__all__ = ["Point", "calibration", "draw_calibration", "figure_stem", "frontier"]

PERCENT = PercentFormatter(1, decimals=0, symbol=" %")


def figure_stem(result: Result) -> str:
    """How the names of a stored result's figures and report begin: as its JSON file's, without the
    views. So other data of the same name have figures of their own."""
    assert result.path is not None
    return result.path.stem.removesuffix(f"-{result.key.views}")


def draw_calibration(result: Result, card: Mapping[str, Any], folder: Path) -> dict[str, Figure]:
    """DATA-SPLIT-calibration.png of a stored result; nothing where it has no probabilities."""
    if (answers := result.answers) is None:
        return {}
    temperature = card.get("temperature", 1.0)
    name = f"{folder.name}, {result.data}, {result.key.split}"
    figure = calibration(
        answers.probabilities, answers.labels, name, temperature, card.get("min_confidence", 0.0)
    )
    figure.savefig(folder / f"{figure_stem(result)}-calibration.png", dpi=110)
    return {"calibration": figure}


def calibration(
    probabilities: np.ndarray,
    labels: np.ndarray,
    name: str,
    temperature: float = 1.0,
    min_confidence: float = 0.0,
) -> Figure:
    """Reliability of a network's probabilities (N, classes) and, with a temperature, of the scaled
    ones; then mistakes by how many faces are answered, with the threshold marked if there is one.
    """
    scaled = scaled_probabilities(probabilities, temperature)
    before, after = reliability_bins(probabilities, labels), reliability_bins(scaled, labels)
    panels = [("as the network answers", before)]
    if temperature != 1:
        panels.append((f"with temperature {temperature:.2f}", after))
    count = len(panels) + 1
    figure, axes = plt.subplots(1, count, figsize=(3.9 * count, 3.9), layout="constrained")
    for place, (title, bins) in zip(axes, panels, strict=False):
        reliability(place, bins, title)
    coverage, risk = risk_coverage(scaled, labels)
    draw_risk(axes[-1], coverage, risk, scaled.max(1), min_confidence)
    errors = f"{100 * before.error:.1f} %"
    if temperature != 1:
        errors += f", and {100 * after.error:.1f} % with temperature {temperature:.2f}"
    caption(figure, f"{name}: the expected calibration error is {errors} ({len(scaled)} faces).")
    return figure


def reliability(axes: Axes, bins: Bins, title: str) -> None:
    """Accuracy of each bin of confidence as a bar, its gap to the diagonal hatched; the share of
    the faces in each bin as gray bars at the bottom."""
    width = 1 / len(bins.counts)
    centres = (np.arange(len(bins.counts)) + 0.5) * width
    accuracy = np.nan_to_num(bins.accuracy)
    gap = np.nan_to_num(bins.confidence) - accuracy
    axes.bar(centres, accuracy, 0.92 * width, color=COLOURS[0], label="accuracy")
    axes.bar(centres, gap, 0.92 * width, accuracy, color="none", edgecolor=COLOURS[1], hatch="////",
             linewidth=0.8, label="gap to confidence")  # fmt: skip
    shares = bins.counts / bins.counts.sum()
    axes.bar(centres, shares, 0.4 * width, color="#c8c8c8", label="share of faces", zorder=3)
    axes.plot([0, 1], [0, 1], "--", color=GRAY, linewidth=1)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence of the answer", ylabel="share right")
    axes.set_title(f"{title}: error {100 * bins.error:.1f} %", fontsize=10)
    axes.xaxis.set_major_formatter(PERCENT)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    clean(axes)


def draw_risk(
    axes: Axes, coverage: np.ndarray, risk: np.ndarray, confidence: np.ndarray, threshold: float
) -> None:
    """Share of mistakes among the surest answers; the point that a threshold above 0 gives."""
    first = min(len(risk) - 1, 19)  # the share of mistakes among fewer faces jumps about
    axes.plot(coverage[first:], risk[first:], color=COLOURS[0])
    axes.set_title("mistakes, the surest answers first", fontsize=10)
    answered = int((confidence >= threshold).sum())
    if threshold and answered:
        at = (coverage[answered - 1], risk[answered - 1])
        axes.plot(*at, "o", color=COLOURS[1], markersize=7)
        text = (
            f"threshold {threshold:.2f}:\n{100 * at[0]:.0f} % answered,\n{100 * at[1]:.0f} % wrong"
        )
        left = at[0] > 0.5
        axes.annotate(text, at, (-8 if left else 8, 12), textcoords="offset points", fontsize=8,
                      ha="right" if left else "left", color=COLOURS[1])  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1.15 * max(0.05, risk[first:].max())))
    axes.set(xlabel="share of faces answered", ylabel="share of mistakes among them")
    axes.xaxis.set_major_formatter(PERCENT)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    clean(axes, "both")


class Point(NamedTuple):
    """What one way to make the answer gives on validation, shares in [0, 1]."""

    name: str  # drawn beside the mark; "" for none
    label: float  # accuracy for the data set's labels
    majority: float  # accuracy for the crowd's majority
    elsewhere: float | None  # mean recall on another data set
    prior_correction: float


def frontier(
    points: Sequence[Point],
    chosen: int,
    point: str,
    *,
    bounds: tuple[float, float],
    colour: str,
) -> Figure:
    """Accuracy for labels against accuracy for the crowd, a mark for each way to make the answer.

    The mark's form is the prior correction, its colour the figure called `colour`; a ring marks
    `chosen`; lines are the `bounds` (label, majority) that an answer should keep.
    """
    figure, axes = plt.subplots(figsize=(7.2, 5.2), layout="constrained")
    values = [p.elsewhere for p in points if p.elsewhere is not None]
    style: dict[str, Any] = {"color": COLOURS[0]}
    for correction, marker in zip(sorted({p.prior_correction for p in points}), "osD^v",
                                  strict=False):  # fmt: skip
        own = [p for p in points if p.prior_correction == correction]
        if values:
            style = {"c": [p.elsewhere for p in own], "cmap": "viridis", "vmin": min(values),
                     "vmax": max(values)}  # fmt: skip
        drawn = axes.scatter([p.label for p in own], [p.majority for p in own], s=46, marker=marker,
                             zorder=3, **style)  # fmt: skip
        axes.scatter([], [], marker=marker, color=GRAY, label=f"prior correction {correction:g}")
    if values:
        bar = figure.colorbar(drawn, ax=axes, format=PERCENT)
        bar.set_label(colour)
        bar.outline.set_visible(False)
    best = points[chosen]
    ring: dict[str, Any] = {"facecolor": "none", "edgecolor": COLOURS[1], "linewidth": 2}
    axes.scatter(best.label, best.majority, s=220, zorder=4, **ring)
    axes.scatter([], [], s=60, label="chosen", **ring)
    for p in filter(lambda p: p.name, points):
        axes.annotate(p.name, (p.label, p.majority), (7, 5), textcoords="offset points", fontsize=8)
    axes.axvline(bounds[0], color=GRAY, linestyle="--", linewidth=1)
    axes.axhline(bounds[1], color=GRAY, linestyle="--", linewidth=1, label="bounds of the rule")
    axes.set(xlabel="accuracy, labels", ylabel="accuracy, majority of the crowd")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=1, symbol=" %"))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1, symbol=" %"))
    figure.legend(loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    clean(axes, "both")
    caption(figure, point)
    return figure
