"""The cross-data matrix at a glance: who loses how much on other people's faces, and where."""

from collections.abc import Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab.class_names import UNCERTAIN
from lab.matrix_cells import Column, Matrix, MatrixRow
from lab.plots import COLOURS, caption, clean

__all__ = ["draw"]

SHAPES = "osD^vP"


def draw(matrix: Matrix, rows: Sequence[MatrixRow], split: str) -> Figure:
    """Above, accuracy and mean recall as heat maps, a column a data set; below, the recall of each
    class, a panel a class, a dot a data set."""
    columns = matrix.main_columns(split)
    names = class_names(rows, columns, split)
    height = 0.34 * len(rows)
    figure = plt.figure(figsize=(15, 3.4 + 2 * height), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.5 + height, 1.5 + height))
    maps = top.subplots(1, 2, sharey=True)
    for axes, title in zip(maps, ("accuracy", "mean recall"), strict=True):
        heat_map(axes, heat_values(rows, columns, split, title), columns, rows, title)
    panels = bottom.subplots(1, len(names), sharey=True, sharex=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        class_panel(axes, name, rows, columns, split)
    panels[0].set_yticks(range(len(rows)), [row.folder for row in rows], fontsize=9)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    handles, labels = panels[0].get_legend_handles_labels()
    bottom.legend(handles, labels, loc="outside upper center", ncols=6, fontsize=9, frameon=False)
    caption(figure, point(rows, columns, split))
    return figure


def class_names(rows: Sequence[MatrixRow], columns: Sequence[Column], split: str) -> list[str]:
    """The classes that have a face in some column."""
    cells = [row.cell(column, split) for row in rows for column in columns]
    return list(dict.fromkeys(name for cell in cells if cell for name in cell.recalls))


def heat_values(
    rows: Sequence[MatrixRow], columns: Sequence[Column], split: str, what: str
) -> np.ndarray:
    """Figures (rows, columns) in [0, 1]; nan where there is none. The mean recall is without
    uncertain classes."""
    values = np.full((len(rows), len(columns)), np.nan)
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            left = UNCERTAIN.get(column.notes.name, ())
            if what == "mean recall" and left:
                column = Column(column.notes, column.heading, left)
            if cell := row.cell(column, split):
                told = cell.told
                values[y, x] = told.accuracy if what == "accuracy" else cell.mean_recall
    return values


def heat_map(
    axes: Axes, values: np.ndarray, columns: Sequence[Column], rows: Sequence[MatrixRow], title: str
) -> None:
    axes.imshow(values, cmap="Blues", vmin=0.2, vmax=1, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        text, colour = f"{100 * value:.0f}", "white" if value > 0.7 else "black"
        text, colour = ("–", "#767676") if np.isnan(value) else (text, colour)
        axes.text(x, y, text, ha="center", va="center", fontsize=10, color=colour)
    labels = []
    for column in columns:
        left = UNCERTAIN.get(column.notes.name, ()) if title == "mean recall" else ()
        heading = column.heading.replace(", ", "\n")
        labels.append(heading + (f"\nwithout {', '.join(left)}" if left else ""))
    axes.set_xticks(range(len(columns)), labels, fontsize=9)
    axes.set_yticks(range(len(rows)), [row.folder for row in rows], fontsize=9)
    axes.set_title(f"{title} (%)", fontsize=10)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def class_panel(
    axes: Axes, name: str, rows: Sequence[MatrixRow], columns: Sequence[Column], split: str
) -> None:
    """Recall of one class: a line of dots a row."""
    for column, colour, shape in zip(columns, cycle(COLOURS), cycle(SHAPES), strict=False):
        places = []
        for y, row in enumerate(rows):
            k, n = cell.recalls.get(name, (0, 0)) if (cell := row.cell(column, split)) else (0, 0)
            if n:
                places.append((k / n, y))
        shares, lines = [share for share, _ in places], [y for _, y in places]
        axes.plot(
            shares, lines, shape, color=colour, alpha=0.85, markersize=6, label=column.heading
        )
    axes.set_title(name, fontsize=10)
    axes.set(xlim=(-0.04, 1.04), xticks=(0, 0.5, 1), xlabel="recall")
    axes.tick_params(axis="y", length=0)
    clean(axes, "both")


def point(rows: Sequence[MatrixRow], columns: Sequence[Column], split: str) -> str:
    """The caption: how much the first network at home loses on the column that is hardest."""
    told = f"{split}: every row gets the same faces."
    losses = []
    for row in rows:
        figures = {c.heading: cell.mean_recall for c in columns if (cell := row.cell(c, split))}
        homes = [c.heading for c in columns if c.notes.fingerprint in row.training]
        away = {name: value for name, value in figures.items() if name not in homes}
        if homes and homes[0] in figures and away:
            worst = min(away, key=lambda name: away[name])
            losses.append((figures[homes[0]] - away[worst], row.folder, homes[0], worst, figures))
    if not losses:
        return told
    _, name, home, worst, figures = max(losses, key=lambda each: each[0])
    return (
        f"{told} The largest loss abroad is {name}'s: a mean recall of {100 * figures[home]:.0f} % "
        f"on {home}, {100 * figures[worst]:.0f} % on {worst} (all its classes)."
    )
