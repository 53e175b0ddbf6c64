"""A file of cleaned labels: which faces of FER2013 are labelled as what the file says instead.

Why: about one label in three of FER2013 is not what a crowd sees. The file names faces as FER+
does, by number, and holds no pictures: row i of train, validation and test, one after the other,
is fer<i>.png. Only training labels are replaced. Validation and test labels stay as published, so
that figures on them can be compared with anybody else's.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from datasets import DatasetDict

from expression.csv_cells import cell_of, text_of
from expression.files import atomic_write
from lab.class_names import canonical
from lab.datasets.reading import arrow_table, with_column
from lab.datasets.splits import SPLITS

__all__ = ["Change", "face_id", "read_changes", "replace_labels", "write_changes"]

COLUMNS = ("id", "split", "label", "cleaned_label")


class Change(NamedTuple):
    """One face whose label is in doubt."""

    number: int  # of the face, counted over train, validation and test
    split: str
    label: str
    cleaned_label: str
    votes: int = 0  # how many of the crowd gave the cleaned label
    probability: float = 0.0  # that the network gives it


def face_id(number: int) -> str:
    """As FER+ names the picture of a row: 12 → fer0000012.png."""
    return f"fer{number:07d}.png"


def write_changes(path: Path, changes: Iterable[Change]) -> Path:
    """Write the file, a line for each face."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*COLUMNS, "votes", "probability"])
    for c in changes:
        labels = cell_of(c.label), cell_of(c.cleaned_label)
        table.writerow([face_id(c.number), c.split, *labels, c.votes, f"{c.probability:.3f}"])
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
    return path


def read_changes(path: str | Path) -> list[Change]:
    """The faces in a file; further columns may be missing.

    Raises FileNotFoundError without the file; ValueError, naming the line, for what is no face's
    row, and for a face that stands there twice.
    """
    found: dict[int, Change] = {}
    file = Path(path).expanduser()
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        if missing := set(COLUMNS) - set(reader.fieldnames or ()):
            raise ValueError(
                f"{file.name} has no column {', '.join(sorted(missing))}; found "
                f"{reader.fieldnames}; expected {', '.join(COLUMNS)}"
            )
        for row in reader:
            name = row["id"] or ""
            digits = name.removeprefix("fer").removesuffix(".png")
            if not (digits.isdecimal() and name.startswith("fer")) or row["split"] not in SPLITS:
                raise ValueError(
                    f"{file.name}, line {reader.line_num}: {list(row.values())} is no row of an id "
                    f"such as {face_id(12)}, a split of {', '.join(SPLITS)}, and two labels"
                )
            labels = text_of(row["label"] or ""), text_of(row["cleaned_label"] or "")
            change = Change(int(digits), row["split"], *labels)
            if change.number in found:
                raise ValueError(f"{file.name}, line {reader.line_num}: {name} stands there twice")
            found[change.number] = change
    return list(found.values())


def replace_labels(splits: DatasetDict, path: str | Path) -> DatasetDict:
    """The splits with the training labels that a file of cleaned labels gives.

    Every row of the file is checked against the data, those of validation too, though only
    training labels are replaced; `info.description` of train gains a line that says how many.
    Raises ValueError for a face that is not there, is in another split or is labelled otherwise
    than the file says: it was then made for other data, or rows were left out or moved.
    """
    changes, file = read_changes(path), Path(path).name
    starts = dict(zip(SPLITS, np.cumsum([0, *(len(splits[s]) for s in SPLITS)])[:-1], strict=True))
    names = splits["train"].features["label"].names
    known = {canonical(name): index for index, name in enumerate(names)}
    labels = {split: np.array(splits[split]["label"][:]) for split in SPLITS}
    cleaned = labels["train"].copy()
    for change in changes:
        row = change.number - int(starts[change.split])
        check(change, row, labels[change.split], names, file)
        if canonical(change.cleaned_label) not in known:
            raise ValueError(
                f"{file}: {face_id(change.number)} would be {change.cleaned_label}, which is none "
                f"of the classes {', '.join(names)}"
            )
        if change.split == "train":
            cleaned[row] = known[canonical(change.cleaned_label)]
    rows = splits["train"]
    told = int((cleaned != labels["train"]).sum())
    line = f"cleaned labels: {told:,} of {len(rows):,} training labels replaced, from {file}"
    table, values = arrow_table(rows), pa.array(cleaned, pa.int64())
    rows = with_column(rows, table, "label", values, rows.features["label"])
    rows.info.description = f"{splits['train'].info.description or ''}\n{line}".strip()
    return DatasetDict(splits | {"train": rows})


def check(change: Change, row: int, labels: np.ndarray, names: Sequence[str], file: str) -> None:
    """ValueError where the data do not have this face, in this split, with this label."""
    name = f"{file}: {face_id(change.number)}"
    rule = (
        "the file was made for other data, or rows were left out or moved (row i of train, "
        "validation and test, one after the other, is fer<i>.png)"
    )
    if not 0 <= row < len(labels):
        raise ValueError(f"{name} is not among the {len(labels):,} faces of {change.split}; {rule}")
    if canonical(names[labels[row]]) != canonical(change.label):
        raise ValueError(
            f"{name} is labelled {names[labels[row]]} here, not {change.label}; {rule}"
        )
