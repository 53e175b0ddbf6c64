"""Tables of pictures and labels, as people upload them → three splits that can be trained on.

Why: one empty cell or one file cut short in ten thousand ends an hour of training in the trace of
a decoder. Here each picture is decoded once, rows that cannot be used are left out, counted and
named, and a split that is missing is drawn from train by the rule for image folders. A table in
which many rows cannot be used is not damaged but misunderstood: it is refused.

A set without such rows and with its three splits is returned as it is.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetDict, Image
from tqdm import tqdm

from expression.file_kinds import is_url
from lab.datasets.drawn_splits import check_given, check_sizes, complete
from lab.datasets.reading import (
    Report,
    arrow_table,
    picture_content,
    picture_digest,
    why_not_open,
    with_column,
    with_full_range,
)
from lab.datasets.splits import SPLITS, check_columns, rename_columns
from lab.datasets.table_labels import class_labels

__all__ = ["MOST_LEFT_OUT", "Unusable", "check_share", "class_word", "opened", "row_name", "usable"]

MOST_LEFT_OUT = 0.2  # of a split's rows: with more that have no label or no picture, it is refused


@dataclass(frozen=True)
class _Row:
    name: str  # file and row: used in reports and to draw splits
    split: str
    label: str
    digest: bytes
    row: int


def row_name(split: str, row: int) -> str:
    return f"{split} row {row}"


def usable(
    splits: Mapping[str, Dataset],
    where: str,
    *,
    class_names: Sequence[str] | None = None,
    name: Callable[[str, int], str] = row_name,
    folders: Sequence[Path] = (),
    sizes: tuple[float, float] = (0.25, 0.1),
    seed: int = 0,
    strict: bool = False,
    progress: bool = False,
) -> DatasetDict:
    """Splits `train`, `validation`, `test` with pictures in `image` and named classes in `label`.

    `splits` are named as in SPLITS, others are ignored; columns `img` and `labels` are understood;
    `where` and `name` (of a row) are used in messages. Pictures are encoded bytes, a path, or both
    in a struct; relative paths are looked for in `folders`. `sizes`: the shares of test and
    validation, where those are missing. With `strict`, what would be left out raises ValueError.

    Raises ValueError for a missing column, labels that have no meaning (`class_labels`), a split
    that would be empty, and one of whose rows more than `MOST_LEFT_OUT` cannot be used.
    """
    check_sizes(*sizes)
    given = {split: rename_columns(splits[split]) for split in SPLITS if split in splits}
    check_given(set(given), where, "a split train", "a split test")
    for split, rows in given.items():
        check_columns(rows, f"{where} ({split})")
        if not len(rows):
            raise ValueError(f"{where} ({split}) is empty; every split needs at least one face")
    names, labels = class_labels(given, where, class_names)
    report = Report(strict)
    kept: list[_Row] = []
    tables: dict[str, Dataset] = {}
    for split, rows in given.items():
        pictures = _pictures(rows, f"{where} ({split})")
        cells = tqdm(_cells(pictures), f"checking {split}", len(rows), disable=not progress)
        found, stored = _opened_rows(split, cells, labels[split], names, name, folders, report)
        check_share(len(found), len(rows), f"{where} ({split})", report)
        for row in found:
            if row.label in names:
                kept.append(row)
            else:
                report.count(f"class {row.label}, which train lacks, left out", row.name)
        tables[split] = _with_labels(_with_stored(pictures, stored), labels[split], names)
    return _joined(tables, kept, where, sizes, seed, report)


def _opened_rows(
    split: str,
    cells: Iterable[dict[str, Any] | None],
    labels: Sequence[int | str | None],
    names: Sequence[str],
    name: Callable[[str, int], str],
    folders: Sequence[Path],
    report: Report,
) -> tuple[list[_Row], dict[int, dict[str, Any]]]:
    """(the rows with a label and a picture that opens, {row: what is stored in the picture's
    place}, where it is not stored as it is)."""
    found, stored = [], {}
    for row, (cell, label) in enumerate(zip(cells, labels, strict=True)):
        try:
            word = class_word(label, names)
            digest, change = opened(cell, folders)
        except Unusable as problem:
            report.count(f"{problem}, left out", name(split, row))
            continue
        if change is not None:
            stored[row] = change
        found.append(_Row(name(split, row), split, word, digest, row))
    return found, stored


class Unusable(ValueError):
    """Why one row cannot be used."""


def class_word(label: int | str | None, names: Sequence[str]) -> str:
    """A row's class as a word. Raises Unusable for no label and for a number of no class."""
    if label is None:
        raise Unusable("no label (an empty cell or -1)")
    if isinstance(label, str):
        return label
    if not 0 <= label < len(names):
        raise Unusable(f"label {label} is none of 0..{len(names) - 1}")
    return names[label]


def opened(
    value: dict[str, Any] | None, folders: Sequence[Path]
) -> tuple[bytes, dict[str, Any] | None]:
    """(SHA-256 of the encoded picture, what is to be stored in its place or None).

    Raises Unusable where there is no picture that opens.
    """
    if value is None or (not value["bytes"] and not value["path"]):
        raise Unusable("no picture (an empty cell)")
    try:
        if value["bytes"] is not None:
            content, stored = value["bytes"], value
        else:
            file = _file(value["path"], folders)
            content, stored = picture_content(file), {"bytes": None, "path": str(file)}
        digest = picture_digest(content)
        bright = with_full_range(content)
    except Unusable:
        raise
    except Exception as error:  # decoders raise nearly any exception for a broken file
        raise Unusable(f"picture does not open ({why_not_open(error)})") from error
    if bright is not content:
        stored = {"bytes": bright, "path": None}
    return digest, None if stored == value else stored


def _file(path: str, folders: Sequence[Path]) -> Path:
    """The file that a cell names, looked for in the folders where its path is relative."""
    if is_url(path) or "://" in path:
        raise Unusable("picture is a web address, which is not fetched")
    for file in [folder / path for folder in folders] or [Path(path)]:  # an absolute path stays
        if file.is_file():
            return file.absolute()
    raise Unusable("picture's file is missing")


def check_share(kept: int, rows: int, where: str, report: Report) -> None:
    if rows - kept > MOST_LEFT_OUT * rows:
        raise ValueError(
            f"{where}: {rows - kept:,} of {rows:,} rows cannot be used, more than the "
            f"{100 * MOST_LEFT_OUT:g} % that are left out at most: {'; '.join(report.reasons())}; "
            "mend or remove them"
        )


def _pictures(rows: Dataset, where: str) -> Dataset:
    """The rows with encoded pictures, {"bytes": …, "path": …} or None each, not decoded."""
    try:
        return rows.cast_column("image", Image(decode=False))
    except (pa.ArrowException, TypeError, ValueError, KeyError) as error:
        raise ValueError(
            f"{where}: column image holds {rows.features['image']}, not encoded pictures"
        ) from error


def _cells(rows: Dataset) -> Iterator[dict[str, Any] | None]:
    """The encoded pictures, a hundred at a time: row by row takes ten times as long."""
    for batch in rows.select_columns(["image"]).with_format("arrow").iter(100):
        yield from batch["image"].to_pylist()


def _with_stored(rows: Dataset, stored: Mapping[int, dict[str, Any]]) -> Dataset:
    """The rows with some pictures replaced."""
    if not stored:
        return rows
    table = arrow_table(rows)
    values = [stored.get(row, value) for row, value in enumerate(table["image"].to_pylist())]
    feature = rows.features["image"]
    return with_column(rows, table, "image", pa.array(values, feature.pa_type), feature)


def _with_labels(rows: Dataset, labels: Sequence[Any], names: list[str]) -> Dataset:
    """The rows with class indices; None where a row has none that can be used."""
    kind = rows.features["label"]
    if isinstance(kind, ClassLabel) and kind.names == names:
        return rows
    indices = [k if isinstance(k, int) and 0 <= k < len(names) else None for k in labels]
    bare = rows.remove_columns(["label"])
    named = bare.add_column("label", indices, feature=ClassLabel(names=names))
    return named.select_columns(rows.column_names)


def _joined(
    tables: Mapping[str, Dataset],
    kept: list[_Row],
    where: str,
    sizes: tuple[float, float],
    seed: int,
    report: Report,
) -> DatasetDict:
    """The rows that are kept, in three splits; where some are not, or a split was drawn, each
    split's `info.description` is the report."""
    parts, how = complete(kept, set(tables), sizes, seed, report)
    if empty := [split for split in SPLITS if not parts[split]]:
        why = report.why() or f"{len(kept)} rows are too few to draw from"
        raise ValueError(f"{where}: no row is left for {empty[0]}: {why}")
    left, total = sum(map(len, parts.values())), sum(map(len, tables.values()))
    head = f"rows: {left:,} of {total:,} kept, {total - left:,} left out (counted from 0)"
    splits = DatasetDict()
    for split in SPLITS:
        source = tables.get(split, tables["train"])
        wanted = sorted(row.row for row in parts[split])
        rows = source if len(wanted) == len(source) else source.select(wanted)
        splits[split] = rows.cast_column("image", Image())
        if left < total or len(tables) < len(SPLITS):
            splits[split].info.description = report.text(head, how)
    return splits
