"""What has to be known of a streamed data set before it can be trained on: one pass over it.

Why: a stream has no length, a picture in the middle of it that does not open would end a training
after hours, and which validation faces stand in train too can only be told from all of train. So
the files are read once, each picture decoded once, with a few rows in memory; what was found is
kept in .expression_cache until a file changes. The fingerprint is the one that the set has when it
is read whole, so both have the same results.
"""

import hashlib
import json
import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import DatasetDict
from tqdm import tqdm

from expression.kept_files import is_whole, keep_file
from lab.datasets.parquet_stream import Cell, Rows
from lab.datasets.reading import Report, with_full_range
from lab.datasets.splits import build_split
from lab.datasets.table_rows import Unusable, check_share, class_word, opened
from lab.duplicates import pixel_digest

__all__ = ["Survey", "decoded_picture", "survey", "usable_rows"]

IMAGE = datasets.Image()
HELD = ("validation", "test")  # splits of ordinary size: read into memory, encoded


@dataclass(frozen=True)
class Survey:
    """What one pass over a streamed data set has found."""

    fingerprint: str  # as `lab.datasets.fingerprint` of the set read whole
    kept: np.ndarray  # (files,) int64: rows of train that can be used, file by file
    labels: np.ndarray  # (n,) uint16: of those rows, in the order of the files
    broken: np.ndarray  # (k, 32) uint8: SHA-256 of train's pictures that do not open
    in_train: dict[str, np.ndarray]  # split: bool (n,), whether the picture is in train too
    notes: list[str]  # the report on rows of train that were left out


def usable_rows(
    rows: Iterable[tuple[Cell, int | None]], num_classes: int, broken: frozenset[bytes]
) -> Iterator[tuple[bytes, int]]:
    """(encoded picture, label) of those rows that `survey` has counted as usable."""
    for cell, label in rows:
        content = (cell or {}).get("bytes")
        if not content or label is None or not 0 <= label < num_classes:
            continue
        if not (broken and hashlib.sha256(content).digest() in broken):
            yield with_full_range(content), label


def decoded_picture(content: bytes) -> Any:
    """An encoded picture as a row of a `Dataset` gives it."""
    return IMAGE.decode_example({"bytes": content, "path": None})


def survey(rows: dict[str, Rows], key: str, strict: bool) -> tuple[Survey, DatasetDict, list[str]]:
    """(what was found; validation and test; the report) of a streamed set; `key` is its files'.

    Raises ValueError where too many rows cannot be used, or with `strict` for the first of them.
    """
    report, names = Report(strict), rows["train"].class_names
    for split in HELD:
        if rows[split].class_names != names:
            raise ValueError(
                f"{rows[split].where} names its classes {rows[split].class_names}, but train "
                f"names them {names}"
            )
    held = DatasetDict()
    for split in HELD:
        kept = list(_Check(rows[split], report))
        if not kept:
            raise ValueError(f"{rows[split].where}: no row is left; {'; '.join(report.reasons())}")
        images: list[dict[str, Any]] = [{"bytes": content, "path": None} for content, _ in kept]
        held[split] = build_split(images, [label for _, label in kept], names)
    path = Path(".expression_cache") / f"survey-{key[:20]}.npz"
    if not is_whole(path) or strict:
        found = _look(rows["train"], held, Report(strict))
        with keep_file(path) as part:
            np.savez_compressed(part, **_arrays(found))
    found = _read(path)
    return found, held, [*found.notes, *report.reasons()]


class _Check:
    """Iterates over the usable rows of a split, and counts the others."""

    def __init__(self, rows: Rows, report: Report) -> None:
        self.rows, self.report = rows, report
        self.kept = [0] * rows.files
        self.broken: set[bytes] = set()

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        names, total = self.rows.class_names, 0
        for file in range(self.rows.files):
            for row, (cell, label) in enumerate(self.rows.of_file(file)):
                total += 1
                try:
                    content = self._opened(cell, label, names)
                except Unusable as problem:
                    where = f"{self.rows.where} file {file} row {row}"
                    self.report.count(f"{problem}, left out", where)
                    continue
                self.kept[file] += 1
                yield content, int(label or 0)
        check_share(sum(self.kept), total, self.rows.where, self.report)

    def _opened(self, cell: Cell, label: int | None, names: list[str]) -> bytes:
        class_word(None if label == -1 else label, names)
        content = (cell or {}).get("bytes")
        if not content:
            raise Unusable("no picture in the file itself")
        try:
            _, stored = opened({"bytes": content, "path": None}, ())
        except Unusable:
            self.broken.add(hashlib.sha256(content).digest())
            raise
        return stored["bytes"] if stored else content


def _look(train: Rows, held: DatasetDict, report: Report) -> Survey:
    total = train.count()
    places: dict[bytes, list[tuple[str, int]]] = {}
    for split, rows in held.items():
        for row, picture in enumerate(rows["image"]):
            places.setdefault(pixel_digest(picture), []).append((split, row))
    in_train = {split: np.zeros(len(rows), bool) for split, rows in held.items()}
    labels = array("H")
    check = _Check(train, report)
    bar = tqdm(check, "checking train", total, unit=" faces", disable=not sys.stderr.isatty())

    def looked_at() -> Iterator[tuple[bytes, int]]:
        for content, label in bar:
            labels.append(label)
            for split, row in places.get(pixel_digest(decoded_picture(content)), ()):
                in_train[split][row] = True
            yield content, label

    fingerprint = _fingerprint(train, total, looked_at(), held)
    if not labels:
        raise ValueError(f"{train.where}: no row is left; {'; '.join(report.reasons())}")
    broken = frozenset(check.broken)
    if len(labels) < total:  # the number of rows is part of it, and was not known
        again = train.in_order()
        kept = usable_rows(again, len(train.class_names), broken)
        fingerprint = _fingerprint(train, len(labels), kept, held)
    told = f"rows: {total - len(labels):,} of {total:,} in train left out (counted from 0)"
    notes = report.text(told) if report.places else ""
    return Survey(fingerprint, np.array(check.kept), np.array(labels, np.uint16),
                  np.frombuffer(b"".join(sorted(broken)), np.uint8).reshape(-1, 32), in_train,
                  notes.splitlines())  # fmt: skip


def _fingerprint(
    train: Rows, count: int, kept: Iterable[tuple[bytes, int]], held: DatasetDict
) -> str:
    """As `lab.datasets.fingerprint` of the splits read whole."""
    digest = hashlib.sha256("\0".join(train.class_names).encode())
    digest.update(f"\0train {count}\0".encode())
    for content, label in kept:
        digest.update(f"{label} {len(content)} ".encode() + content)
    for split, rows in held.items():
        digest.update(f"\0{split} {len(rows)}\0".encode())
        for row in rows.cast_column("image", datasets.Image(decode=False)):
            content = row["image"]["bytes"]
            digest.update(f"{row['label']} {len(content)} ".encode() + content)
    return digest.hexdigest()[:16]


def _arrays(found: Survey) -> dict[str, Any]:
    about = {"fingerprint": found.fingerprint, "notes": found.notes}
    return {"about": np.array(json.dumps(about)), "kept": found.kept, "labels": found.labels,
            "broken": found.broken, **found.in_train}  # fmt: skip


def _read(path: Path) -> Survey:
    with np.load(path, allow_pickle=False) as file:
        about = json.loads(file["about"].item())
        in_train = {split: file[split] for split in HELD}
        return Survey(about["fingerprint"], file["kept"], file["labels"], file["broken"],
                      in_train, about["notes"])  # fmt: skip
