"""Figures with one point each: faces, learning curves, classes, models compared, confusion.

Why: comparable figures need the same scale, a baseline and a caption that states the point; with
the drawing here, the notebook's cells stay short.
"""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator, PercentFormatter

__all__ = [
    "as_picture",
    "cams",
    "comparison",
    "confusion",
    "curves",
    "faces",
    "history",
    "per_class",
    "runs",
]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe-Ito
GRAY = "#767676"
DASHED: dict[str, Any] = {"color": GRAY, "linestyle": (0, (2, 2)), "linewidth": 1, "zorder": 1}


def caption(figure: Figure, text: str) -> None:
    """The point of the figure, below it, in lines that fit its width."""
    lines = textwrap.fill(text, int(13 * figure.get_figwidth()))  # 13 characters per inch
    figure.supxlabel(lines, fontsize=10, fontstyle="italic", color="#333333")


def clean(axes: Axes, grid: Literal["both", "x", "y"] = "y") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def baseline(
    axes: Axes, value: float, text: str, side: Literal["left", "right", "beside"] = "left"
) -> None:
    """A dashed line at the result of guessing, labelled at its left or right end, or beside it."""
    axes.axhline(value, color=GRAY, linestyle="--", linewidth=1)
    axes.annotate(
        text.replace(" ", "\n") if side == "beside" else text,
        (0 if side == "left" else 1, value),
        xycoords=("axes fraction", "data"),
        xytext={"left": (3, 3), "right": (-3, 3), "beside": (4, 0)}[side],
        textcoords="offset points",
        ha="right" if side == "right" else "left",
        va="center" if side == "beside" else "baseline",
        fontsize=8,
        color=GRAY,
        zorder=1,  # under the curves
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
    figure, grid = picture_grid(rows, columns, (1.25 * columns, 1.5 * rows + 0.3))
    colours = colours or ["black"] * len(images)
    for axes, image, title, colour in zip(grid.flat, images, titles, colours, strict=False):
        show_face(axes, image, title, colour)
    caption(figure, point)
    return figure


def picture_grid(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, np.ndarray]:
    """A figure of `size` inches with axes (rows, columns) for pictures."""
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axes in grid.flat:
        axes.axis("off")
    return figure, grid


def show_face(axes: Axes, image: Any, title: str, colour: str) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.set_title(title, fontsize=8, pad=2, color=colour)


def curves(
    histories: Mapping[str, Mapping[str, Sequence[float]]],
    point: str,
    *,
    chance: float,
    guess_loss: float,
    loss_top: float | None = None,
) -> Figure:
    """Loss and accuracy by epoch: training dashed, validation solid, a colour for each run."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for colour, (name, history) in zip(cycle(COLOURS), histories.items(), strict=False):
        for split, style in (("train", "--"), ("val", "-")):
            epochs = range(1, len(history[f"{split}_loss"]) + 1)
            text = f"{name} {split}".strip()
            left.plot(epochs, history[f"{split}_loss"], style, color=colour, label=text)
            right.plot(epochs, history[f"{split}_accuracy"], style, color=colour, label=text)
    left.set(xlabel="epoch", ylabel="loss (nats per face)", ylim=(0, loss_top))
    right.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1.02))
    left.axhline(guess_loss, **DASHED, label="uniform guess")
    right.axhline(chance, **DASHED, label="majority class")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.legend(fontsize=8, frameon=False)
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
    """A dot for each run (seed), a column for each group, with a line at the group's mean."""
    figure, axes = plt.subplots(figsize=(1.6 + 1.45 * len(groups), 3.4), layout="constrained")
    for x, (colour, values) in enumerate(zip(cycle(COLOURS), groups.values(), strict=False)):
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
        baseline(axes, *line, side="beside")
    caption(figure, point)
    return figure


def history(
    history: Mapping[str, Sequence[float]],
    point: str,
    *,
    chance: float,
    guess_loss: float,
    chosen: int | None = None,
) -> Figure:
    """One run by epoch: loss, accuracy and, if it has the key "lr", the learning rate.

    `chosen` is the epoch that was kept, counted from 1; it is marked on the validation curves.
    `chance` is the accuracy of always predicting the most frequent class, `guess_loss` the loss
    of a uniform guess. Raises ValueError when there is no epoch `chosen`.
    """
    rates, epochs = history.get("lr"), range(1, len(history["val_loss"]) + 1)
    if chosen is not None and chosen not in epochs:
        raise ValueError(f"chosen is epoch {chosen}; the history has epochs 1 to {len(epochs)}")
    figure, panels = plt.subplots(
        1,
        3 if rates else 2,
        figsize=(12 if rates else 10, 3.6),
        width_ratios=(5, 5, 3)[: 3 if rates else 2],
        layout="constrained",
    )
    marker = "o" if len(epochs) < 3 else ""  # a line needs two points to be seen
    for axes, kind in zip(panels, ("loss", "accuracy"), strict=False):
        for split, name, style in (("train", "train", "--"), ("val", "validation", "-")):
            values = history[f"{split}_{kind}"]
            axes.plot(
                epochs, values, style, marker=marker, color=COLOURS[split == "val"], label=name
            )
        if chosen is not None:
            value = history[f"val_{kind}"][chosen - 1]
            axes.axvline(chosen, color=GRAY, linewidth=0.8)
            label = f"chosen: epoch {chosen}, {value:.3f}"
            axes.plot(chosen, value, "o", color=COLOURS[1], markersize=7, label=label)
    top = max(*history["train_loss"], *history["val_loss"], guess_loss)
    panels[0].set(ylabel="loss (nats per face)", ylim=(0, 1.08 * top))
    panels[1].set(ylabel="accuracy", ylim=(0, 1.02))
    panels[0].axhline(guess_loss, **DASHED, label="uniform guess")
    panels[1].axhline(chance, **DASHED, label="majority class")
    if rates:
        panels[2].plot(epochs, rates, marker=marker, color=GRAY)
        panels[2].set(ylabel="learning rate", ylim=(0, None))
        if min(rates) > 0:  # whole decades: otherwise a narrow range looks like a steep fall
            decades = np.floor(np.log10(min(rates))), np.floor(np.log10(max(rates))) + 1
            panels[2].set(yscale="log", ylim=np.power(10.0, decades))
    for axes in panels:
        axes.set(xlabel="epoch", xlim=(0.5, len(epochs) + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        clean(axes)
    for axes in panels[:2]:
        axes.legend(fontsize=8, frameon=False)
    caption(figure, point)
    return figure


def per_class(figures: Mapping[str, Mapping[str, float]], point: str) -> Figure:
    """Precision, recall and F1 of each class, with its number of faces below its name."""
    figure, axes = plt.subplots(figsize=(1.2 + 1.2 * len(figures), 3.6), layout="constrained")
    for shift, key, colour in zip(
        (-0.27, 0, 0.27), ("precision", "recall", "f1"), COLOURS, strict=False
    ):
        bars = axes.bar(
            np.arange(len(figures)) + shift,
            [row[key] for row in figures.values()],
            width=0.25,
            color=colour,
            label="F1" if key == "f1" else key,
        )
        axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=1)
    axes.set(xlim=(-0.5, len(figures) - 0.5), ylim=(0, 1), ylabel="share")
    axes.set_xticks(
        range(len(figures)), [f"{name} ({row['support']:.0f})" for name, row in figures.items()]
    )
    axes.tick_params(axis="x", length=0, labelsize=9)
    figure.legend(loc="outside upper center", ncols=3, fontsize=9, frameon=False)
    clean(axes)
    caption(figure, point)
    return figure


def comparison(
    rows: Sequence[Mapping[str, Any]], point: str, baseline: float | None = None
) -> Figure:
    """Models by accuracy, the best on top: a dot and its 95 % interval, with both as numbers.

    Each row has name, accuracy and interval_95 (low, high), all in [0, 1], and may have
    `published` (drawn as a hollow diamond), `note` (below the name) and `group` (a colour).
    `baseline` is the accuracy of always predicting the most frequent class. The axis covers the
    tenths around the values.
    """
    ordered = sorted(rows, key=lambda row: row["accuracy"])
    groups = list(dict.fromkeys(row.get("group", "") for row in rows))
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.42 * len(rows)), layout="constrained")
    drawn = [] if baseline is None else [baseline]
    for y, row in enumerate(ordered):
        (low, high), published = row["interval_95"], row.get("published")
        colour = COLOURS[groups.index(row.get("group", "")) % len(COLOURS)]
        axes.hlines(y, low, high, color=colour, linewidth=2)
        axes.plot(row["accuracy"], y, "o", color=colour, markersize=7, clip_on=False)
        axes.annotate(
            f"{100 * row['accuracy']:.1f} % ({100 * low:.1f}–{100 * high:.1f})",
            (1.015, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
        )
        if published is not None:
            axes.plot(published, y, "D", color="black", markerfacecolor="none", markersize=7)
        drawn += [low, high, *([] if published is None else [published])]
    tenths = np.floor(10 * min(drawn) - 0.1), np.ceil(10 * max(drawn) + 0.1)
    axes.set_xlim(np.clip(np.divide(tenths, 10), 0, 1))
    axes.xaxis.set_major_locator(MultipleLocator(0.05 if np.ptp(tenths) < 3.5 else 0.1))
    labels = ["\n".join(filter(None, (row["name"], row.get("note")))) for row in ordered]
    axes.set_yticks(range(len(rows)), labels, fontsize=9)
    axes.set(ylim=(-0.6, len(rows) - 0.4), xlabel="accuracy, with 95 % interval")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    for name, colour in zip(groups, cycle(COLOURS), strict=False):
        axes.plot([], [], "o-", color=colour, linewidth=2, label=name or "measured here")
    if any(row.get("published") is not None for row in rows):
        axes.plot([], [], "D", color="black", markerfacecolor="none", label="published")
    if baseline is not None:
        axes.axvline(baseline, color=GRAY, linestyle="--", linewidth=1, label="majority class")
    figure.legend(loc="outside upper center", ncols=5, fontsize=9, frameon=False)
    clean(axes, "x")
    caption(figure, point)
    return figure


def cams(
    pictures: Sequence[Any],
    maps: Sequence[Any],
    titles: Sequence[str],
    point: str,
    colours: Sequence[str] | None = None,
) -> Figure:
    """Pictures with titles, and below each the same picture with its map drawn over it (uint8)."""
    columns = min(8, len(pictures))
    rows = -(-len(pictures) // columns)
    figure, grid = picture_grid(2 * rows, columns, (max(5.0, 1.3 * columns), 2.9 * rows + 0.3))
    colours = colours or ["black"] * len(pictures)
    cells = zip(pictures, maps, titles, colours, strict=True)
    for number, (picture, shown, title, colour) in enumerate(cells):
        row, column = divmod(number, columns)
        show_face(grid[2 * row, column], picture, title, colour)
        grid[2 * row + 1, column].imshow(shown)
    caption(figure, point)
    return figure


def confusion(matrix: Any, class_names: Sequence[str], point: str) -> Figure:
    """Counts and, below them, their share of the row (labels down, predictions across)."""
    counts = np.asarray(matrix)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    side = 1.8 + 0.62 * len(class_names)
    figure, axes = plt.subplots(figsize=(side + 0.6, side), layout="constrained")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.55 else "black" if count else "#a0a0a0"
        share = f"{100 * shares[row, column]:.0f} %" if shares[row, column] >= 0.005 else "< 1 %"
        style = {"ha": "center", "va": "center", "color": colour}
        axes.text(column, row - 0.1 * (count > 0), str(count), fontsize=10, **style)
        if count:
            axes.text(column, row + 0.23, share, fontsize=8, **style)
    axes.set_title("% of the row", loc="right", fontsize=8, color=GRAY, pad=3)
    ticks = range(len(class_names))
    axes.set_xticks(ticks, class_names, rotation=30, ha="right")
    axes.set_yticks(ticks, class_names)
    axes.set(xlabel="predicted", ylabel="labelled")
    axes.spines[:].set_visible(False)
    caption(figure, point)
    return figure
