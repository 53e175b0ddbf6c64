"""results/MATRIX.md and its figures: networks, peers and people on several data sets."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt

from lab import matrix_plot
from lab.class_names import UNCERTAIN
from lab.matrix_cells import Cell, Column, Matrix, MatrixRow, read
from lab.reports import openings_sentence
from lab.results import SPLITS, Results

__all__ = ["FIGURES", "write"]

PAGE = "MATRIX.md"
FIGURES = {"validation": "matrix-validation.png", "test": "matrix.png"}

INTRO = """# The same networks on other people's faces

Written by `python experiments.py compare` from the files in this folder. A row is a network, a
network from another package (a peer), or people; a column is a data set. Every network gets the
same whole pictures, prepared as its own rule says, and one view of each. A cell without a figure
(–) was not measured, or does not apply.

Accuracy is right answers of faces with a 95 % interval. Mean recall counts each class the same,
however few its faces; its interval says how little a few faces tell, and lies nearer to one half
than the figure where a class has only a few. A data set with fewer classes than a network is
measured all the same: an answer that names another class is a mistake.

The expected calibration error compares how sure a network is with how often it is right, in bins of
confidence: as it answers → with the temperature of its card, which was fitted on validation.

`NAME-majority` is the majority of ten voters (FER+'s rule) instead of the label: with eight
classes, contempt included, which networks of seven classes always miss, and with seven.
“Not trained on” leaves out the faces that lie in the training data of the row's network or of a
network that it learnt from: within one data set pixel for pixel, between two by a perceptual hash.
It has a figure for rows that trained on some of them; for the others it would repeat the column
before it. What peers were trained on is not known face by face, so that they have none. Peers stand
here for comparison; nothing was chosen by their figures on the test splits.

`one_person` is one voter of FER+: against the majority of the other nine voters, on the faces
where the ten have a majority, each voter left out once; and against the label, on all faces. A
voter who says contempt, unknown or no face gives a wrong answer unless that is the majority. Its k
and n count votes, not faces; the interval is that of a sample of faces."""

TITLES = {"validation": "Validation splits", "test": "Test splits"}


def write(kept: Results) -> Path | None:
    """Write MATRIX.md and the figures beside the results; None, and nothing written, where no
    network was measured on two data sets."""
    matrix = read(kept)
    if matrix is None:
        return None
    parts = [INTRO, *facts(matrix)]
    for split in reversed(SPLITS):
        if rows := matrix.rows_of(split):
            figure = matrix_plot.draw(matrix, rows, split)
            figure.savefig(kept.folder / FIGURES[split], dpi=110)
            plt.close(figure)
            parts += section(matrix, rows, split, kept)
    parts += ["## Made by", commands(matrix)]
    path = kept.folder / PAGE
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def facts(matrix: Matrix) -> list[str]:
    """What is to be known of each data set: what its reader left out, and shared pictures."""
    names = {notes.fingerprint: notes.name for notes in matrix.data}
    lines = []
    for notes in matrix.data:
        told = [f"left out by its reader: {'; '.join(notes.left_out)}"] if notes.left_out else []
        for training, splits in notes.in_training.items():
            counts = [f"{len(rows)} of {notes.faces[split]:,} {split} faces"
                      for split, rows in splits.items() if rows]  # fmt: skip
            if counts:
                name = names.get(training, training)
                told.append(f"{' and '.join(counts)} are pictures of {name}'s training split")
        if told:
            lines.append(f"- {notes.name}: {'; '.join(told)}.")
    return ["\n".join(lines)] if lines else []


def section(matrix: Matrix, rows: Sequence[MatrixRow], split: str, kept: Results) -> list[str]:
    """Figure and tables of one split."""
    columns = matrix.columns(split)
    certain = [Column(c.notes, f"{c.heading}, without {', '.join(left)}", left, c.unseen)
               for c in columns if (left := UNCERTAIN.get(c.notes.name))]  # fmt: skip
    parts = [f"## {TITLES[split]}", f"![Every row on every data set]({FIGURES[split]})"]
    if split == "test":
        openings = kept.openings()
        told = (openings_sentence(openings, c.notes.name) for c in matrix.main_columns(split))
        parts.append("\n".join(f"- {sentence}" for sentence in told))
    parts += ["### Accuracy", table(rows, columns, split, lambda cell: cell.accuracy)]
    recall = table(rows, columns + certain, split, mean_recall)
    parts += ["### Mean recall of the classes", recall]
    if certain:
        named = "; ".join(f"{name}: {', '.join(classes)}" for name, classes in UNCERTAIN.items())
        parts.append(f"“Without”: classes that people could not name on these faces ({named}).")
    f1 = table(rows, columns, split, lambda cell: f"{cell.told.macro_f1:.3f}")
    parts += ["### Macro F1", f1]
    errors = calibration_table(rows, columns, split)
    parts += ["### Expected calibration error (%)", errors]
    for column in matrix.main_columns(split):
        parts += [f"### Recall of each class: {column.heading}", class_table(rows, column, split)]
    return parts


def mean_recall(cell: Cell) -> str:
    """'0.612 (0.58–0.64)'; of people without the interval, which takes answers for faces."""
    if cell.interval is not None:
        return f"{cell.mean_recall:.3f}"
    low, high = cell.mean_recall_interval
    return f"{cell.mean_recall:.3f} ({low:.2f}–{high:.2f})"


def table(
    rows: Sequence[MatrixRow], columns: Sequence[Column], split: str,
    text: Callable[[Cell], str],
) -> str:  # fmt: skip
    """A figure of each row in each column, as Markdown; – where there is none."""
    lines = [heading(["Row", "Trained on", *(column.heading for column in columns)])]
    for row in rows:
        cells = [row.cell(column, split) for column in columns]
        told = [text(cell) if cell else "–" for cell in cells]
        lines.append(line([f"`{row.folder}`", row.trained_on, *told]))
    return "\n".join(lines)


def calibration_table(rows: Sequence[MatrixRow], columns: Sequence[Column], split: str) -> str:
    """'4.6 → 1.7': before and after the temperature of the card; one figure where that is 1."""
    lines = [heading(["Row", "Temperature", *(column.heading for column in columns)])]
    for row in rows:
        temperature = row.network.card.get("temperature", 1.0)
        told = []
        for column in columns:
            errors = row.calibration(column, split)
            if errors is None:
                told.append("–")
            else:
                shown = errors if temperature != 1 else errors[:1]
                told.append(" → ".join(f"{100 * error:.1f}" for error in shown))
        if row.kind != "people":
            lines.append(line([f"`{row.folder}`", f"{temperature:g}", *told]))
    return "\n".join(lines)


def class_table(rows: Sequence[MatrixRow], column: Column, split: str) -> str:
    """The recall of each class in one column: '62 % (305/491)'."""
    cells = {row: row.cell(column, split) for row in rows}
    names = list(dict.fromkeys(name for cell in cells.values() if cell for name in cell.recalls))
    lines = [heading(["Row", *names])]
    for row, cell in cells.items():
        told = cell.recalls if cell else {}
        words = [f"{100 * k / n:.0f} % ({k}/{n})" if n else "–"
                 for k, n in (told.get(name, (0, 0)) for name in names)]  # fmt: skip
        lines.append(line([f"`{row.folder}`", *words]))
    return "\n".join(lines)


def heading(words: Sequence[str]) -> str:
    return line(words) + "\n" + "|---" * len(words) + "|"


def line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def commands(matrix: Matrix) -> str:
    """The commands that measured the cells, and the rows of each."""
    made: dict[str, list[str]] = {}
    for row in matrix.rows:
        for result in row.results.values():
            names = made.setdefault(result.command, [])
            if row.folder not in names:
                names.append(row.folder)
    return "\n".join(f"- `{command}`: {', '.join(names)}" for command, names in made.items())
