"""What RESULTS.md says of robustness: a table and a figure, all from results/*/robustness/."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from PIL import Image

from lab import plots
from lab.corruptions import SEVERITIES, SIDE, UNITS, corrupt
from lab.metrics import percent
from lab.robustness import Robustness, groups, read_all

__all__ = ["contact_sheet", "curves", "section"]

SHEET = "robustness-corruptions.png"
INTRO = f"""“Relative accuracy” is accuracy on corrupted pictures as a share of accuracy on the same
faces as they are; the mean is over {len(SEVERITIES)} corruptions at five severities, all counting
the same, with a 95 % interval by bootstrap over the faces. Faces that are in the training split
too are left out. The severities were chosen by eye, on the drawn faces above, so that a person
can still name the expression at severity 3; no network had been measured then."""


def section(results: Path) -> list[str]:
    """Parts of RESULTS.md, and its figures drawn; nothing where no robustness was measured."""
    measured = read_all(results)
    if not measured:
        return []
    save(contact_sheet(), results / SHEET)
    parts = ["## Robustness", f"![What the corruptions do to drawn faces]({SHEET})", INTRO]
    for (data, split, n), here in groups(measured).items():
        figure = f"robustness-{data}-{split}-{n}.png"
        save(curves(here, f"{data}, {split}, {n} faces: {ranking(here)}"), results / figure)
        of = f"{n:,} of the {here[0].available:,} faces that are not in the training split too"
        parts += [
            f"### {data}, {split}: {of}, the same for every network" if n < here[0].available
            else f"### {data}, {split}: all {n:,} faces that are not in the training split too",
            f"![Accuracy by severity]({figure})",
            table(here),
            "\n".join(f"- `{told.command}` (revision {told.revision}, {told.hardware})"
                      for told in here),
        ]  # fmt: skip
    return [*parts, severities(measured[0])]


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=110)
    plt.close(figure)


def ranking(here: Sequence[Robustness]) -> str:
    """The networks by mean relative accuracy, in a sentence, and what hurts the first one most."""
    each = ", ".join(f"{told.name} {100 * told.mean_relative_accuracy:.1f} %" for told in here)
    worst = min(here[0].relative, key=lambda name: here[0].relative[name])
    return f"mean relative accuracy {each}. {words(worst).capitalize()} costs {here[0].name} most."


def words(name: str) -> str:
    return "JPEG" if name == "jpeg" else name.replace("_", " ")


def table(here: Sequence[Robustness]) -> str:
    """Networks down; clean accuracy, the mean, and the relative accuracy of each corruption."""
    head = ["Network", "Clean k/n (95 %)", "**Mean relative accuracy** (95 %)",
            *(words(name) for name in SEVERITIES)]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for told in here:
        low, high = told.interval_95
        cells = [
            f"`{told.name}`",
            percent(told.clean, told.n),
            f"**{100 * told.mean_relative_accuracy:.1f} %** ({100 * low:.1f}–{100 * high:.1f})",
            *(f"{100 * told.relative[name]:.0f} %" for name in SEVERITIES),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def severities(told: Robustness) -> str:
    """What each severity means, as it was measured."""
    lines = ["| Corruption | Severity 1, 2, 3, 4, 5 | What the number is |", "|---|---|---|"]
    for name, amounts in told.severities.items():
        cells = ", ".join(f"{amount:g}" for amount in amounts)
        lines.append(f"| {words(name)} | {cells} | {UNITS[name]} |")
    return "\n".join([*lines, "", f"Pictures are {SIDE} × {SIDE} gray pixels when corrupted."])


def curves(here: Sequence[Robustness], point: str) -> Figure:
    """Accuracy against severity, a panel for each corruption, a line for each network."""
    figure, grid = plt.subplots(3, 3, figsize=(10, 8), sharex=True, sharey=True,
                                layout="constrained")  # fmt: skip
    for axes, name in zip(grid.flat, SEVERITIES, strict=True):
        for colour, told in zip(cycle(plots.COLOURS), here, strict=False):
            values = np.array([told.clean, *told.correct[name]]) / told.n
            axes.plot(range(6), values, "o-", color=colour, markersize=4, label=told.name)
        axes.set_title(words(name), fontsize=10)
        plots.clean(axes)
    grid[0, 0].set(ylim=(0, 1))
    grid[0, 0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    for axes in grid[-1]:
        axes.set_xlabel("severity (0: as it is)")
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    plots.caption(figure, point)
    return figure


def drawn_faces() -> np.ndarray:
    """Two drawn faces (2, 48, 48) uint8, cut as FER2013 cuts: eyes and mouth in its rows."""
    from lab.datasets.synthetic import draw_face

    pictures = [draw_face(name, np.random.default_rng(seed))
                for name, seed in (("happy", 20), ("sad", 23))]  # fmt: skip
    return np.stack([
        np.asarray(picture.convert("L").resize(
            (SIDE, SIDE), Image.Resampling.BILINEAR, box=(10, 13, 85, 88)))
        for picture in pictures
    ])  # fmt: skip


def contact_sheet() -> Figure:
    """Drawn faces under every corruption, severity 0 to 5 from left to right."""
    faces, gap = drawn_faces(), 4
    step = SIDE + gap
    sheet = np.full((step * len(SEVERITIES), 12 * step), 255, np.uint8)
    for row, name in enumerate(SEVERITIES):
        for level in range(6):
            for k, picture in enumerate(corrupt(faces, name, level)):
                left = (6 * k + level) * step
                sheet[row * step : row * step + SIDE, left : left + SIDE] = picture
    figure, axes = plt.subplots(figsize=(10.5, 8.2), layout="constrained")
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=255)
    middles = np.arange(12) * step + SIDE / 2
    axes.set_xticks(middles, [str(level) for level in (*range(6), *range(6))])
    axes.set_yticks(middles[: len(SEVERITIES)], [words(name) for name in SEVERITIES])
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    plots.caption(
        figure,
        "Drawn faces, happy and sad, at severity 0 (as they are) to 5: at 3 the expression can "
        "still be named.",
    )
    return figure
