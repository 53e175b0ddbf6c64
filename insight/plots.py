"""Figures that make one point each: faces, curves, seeds side by side, confusion.

Why: comparable figures need the same scale, a baseline and a caption with the point;
drawing them in one place keeps the notebook's cells about the question.
Source: written for this project.
Needs matplotlib, numpy and pillow; copy freely (MIT, see LICENSE).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["as_picture", "confusion", "curves", "faces", "runs"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe-Ito
GRAY = "#767676"


def caption(figure: Figure, text: str) -> None:
    """The point of the figure, in a sentence below it."""
    figure.supxlabel(text, fontsize=10, fontstyle="italic", color="#333333")


def clean(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def baseline(axes: Axes, value: float, text: str) -> None:
    """A dashed line that says what guessing would give."""
    axes.axhline(value, color=GRAY, linestyle="--", linewidth=1)
    axes.annotate(
        text,
        (0, value),
        xycoords=("axes fraction", "data"),
        xytext=(3, 3),
        textcoords="offset points",
        ha="left",
        fontsize=8,
        color=GRAY,
    )


def as_picture(image: Any, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """A normalised tensor (C, H, W) → uint8 (H, W) or (H, W, 3), for looking at."""
    pixels = np.asarray(image) * np.reshape(std, (-1, 1, 1)) + np.reshape(mean, (-1, 1, 1))
    array = (pixels.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    return array[..., 0] if array.shape[2] == 1 else array


def faces(
    images: Sequence[Any],
    titles: Sequence[str],
    point: str,
    columns: int = 8,
    colours: Sequence[str] | None = None,
) -> Figure:
    """PIL pictures in a grid, a title over each."""
    rows = -(-len(images) // columns)
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(1.25 * columns, 1.5 * rows + 0.3),
        squeeze=False,
        layout="constrained",
    )
    for axes in grid.flat:
        axes.axis("off")
    for number, (axes, image, title) in enumerate(zip(grid.flat, images, titles, strict=False)):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=8, pad=2, color=colours[number] if colours else "black")
    caption(figure, point)
    return figure


def curves(
    histories: Mapping[str, Mapping[str, Sequence[float]]],
    point: str,
    *,
    chance: float,
    guess_loss: float,
    loss_top: float | None = None,
) -> Figure:
    """Loss and accuracy by epoch: training dashed, validation solid, one colour a run."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for colour, (name, history) in zip(COLOURS, histories.items(), strict=False):
        for split, style in (("train", "--"), ("val", "-")):
            epochs = range(1, len(history[f"{split}_loss"]) + 1)
            text = f"{name} {split}".strip()
            left.plot(epochs, history[f"{split}_loss"], style, color=colour, label=text)
            right.plot(epochs, history[f"{split}_accuracy"], style, color=colour, label=text)
    left.set(xlabel="epoch", ylabel="loss (nats per face)", ylim=(0, loss_top))
    right.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1.02))
    baseline(left, guess_loss, "uniform guess")
    baseline(right, chance, "majority class")
    left.legend(fontsize=8, frameon=False)
    for axes in (left, right):
        clean(axes)
    caption(figure, point)
    return figure


def runs(
    groups: Mapping[str, Sequence[float]],
    point: str,
    *,
    ylabel: str,
    line: tuple[float, str] | None = None,
    ylim: tuple[float, float] = (0, 1),
) -> Figure:
    """One dot a run (seed), one column a group, its mean as a bar of the group's colour."""
    figure, axes = plt.subplots(figsize=(1.6 + 1.45 * len(groups), 3.4), layout="constrained")
    for x, (colour, values) in enumerate(zip(COLOURS * 3, groups.values(), strict=False)):
        spread = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else [0]
        axes.scatter(x + np.asarray(spread), values, color=colour, s=26, alpha=0.75, zorder=3)
        axes.hlines(np.mean(values), x - 0.25, x + 0.25, color=colour, linewidth=2.5, zorder=4)
        axes.annotate(
            f"{np.mean(values):.3f}",
            (x + 0.28, np.mean(values)),
            fontsize=8,
            va="center",
            color=colour,
        )
    axes.set(xticks=range(len(groups)), xlim=(-0.5, len(groups) - 0.3), ylim=ylim, ylabel=ylabel)
    axes.set_xticklabels(groups, fontsize=9)
    clean(axes)
    if line:
        baseline(axes, *line)
    caption(figure, point)
    return figure


def confusion(matrix: Any, class_names: Sequence[str], point: str) -> Figure:
    """Counts, shaded by the share of each label's row (labels down, predictions across)."""
    counts = np.asarray(matrix)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    side = 1.8 + 0.62 * len(class_names)
    figure, axes = plt.subplots(figsize=(side + 0.6, side), layout="constrained")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        axes.text(
            column,
            row,
            count,
            ha="center",
            va="center",
            fontsize=10,
            color="white" if shares[row, column] > 0.55 else "black",
        )
    ticks = range(len(class_names))
    axes.set_xticks(ticks, class_names, rotation=30, ha="right")
    axes.set_yticks(ticks, class_names)
    axes.set(xlabel="predicted", ylabel="labelled")
    axes.spines[:].set_visible(False)
    caption(figure, point)
    return figure


if __name__ == "__main__":
    plt.switch_backend("Agg")
    confusion(
        [[12, 2, 1], [3, 9, 3], [1, 4, 10]],
        ("happy", "neutral", "sad"),
        "Neutral and sad are taken for one another.",
    ).savefig("confusion.png", dpi=120)
    print("wrote confusion.png")
