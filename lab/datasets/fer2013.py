"""Read Kaggle's `fer2013.csv` and merge its classes.

Why: 35,887 faces of 48 x 48 gray pixels are in one text file of 287 MB. This reads it as a stream
in seconds, names every row it cannot use, keeps every face's row number, and keeps PublicTest
(validation) apart from PrivateTest (test). torchvision.datasets.FER2013(split="test") returns
both as one split: a checkpoint chosen on it has seen the test set.
The data: Goodfellow et al. 2013, arXiv:1307.0414.
"""

import csv
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetDict, DatasetInfo, Features, Image, Value
from tqdm.auto import tqdm

from lab.class_names import canonical
from lab.datasets.reading import arrow_table, first_lines, with_column
from lab.datasets.splits import USAGES

__all__ = ["CLASS_NAMES", "FOUR", "is_fer2013", "load", "merge"]

CLASS_NAMES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
# Seven classes to four: angry, happy, neutral, sad.
FOUR: Mapping[str, str] = MappingProxyType(
    dict(zip(CLASS_NAMES, "angry angry sad happy sad neutral neutral".split(), strict=True))
)

_USAGE = {usage.lower().encode(): split for usage, split in USAGES.items()}
_LABELS = {str(k).encode(): k for k in range(len(CLASS_NAMES))}
_COLUMNS = ("emotion", "pixels", "Usage")
_FILES = ("fer2013.csv", "fer2013/fer2013.csv", "icml_face_data.csv", "train.csv")
_SIDE = 48


class _BadRow(ValueError):
    """Why one row cannot be used."""


# --- fer2013.csv ---


def _separator(header: bytes) -> bytes:
    """What stands between columns: a comma, or as other spreadsheets write, ";" or a tab."""
    return max((b",", b";", b"\t"), key=header.count)


def _cells(line: bytes, separator: bytes) -> list[bytes]:
    if b'"' not in line:  # as in Kaggle's own file; the csv module would take ten times as long
        return line.split(separator)
    try:
        rows = csv.reader([line.decode("utf-8", "replace")], delimiter=separator.decode())
        return [cell.encode() for cell in next(rows)]
    except csv.Error:
        return [line]  # a wrong number of columns, which the caller reports


def _names(line: bytes) -> list[str]:
    line = line.removeprefix(b"\xef\xbb\xbf")  # Excel begins a file with this mark
    cells = _cells(line, _separator(line))
    return [cell.decode("utf-8", "replace").strip() for cell in cells]


def _find(path: str | Path) -> Path | None:
    root = Path(path).expanduser()
    if root.is_file():
        return root
    return next((root / name for name in _FILES if (root / name).is_file()), None)


def is_fer2013(path: str | Path) -> bool:
    """Whether `load` knows this: a CSV with columns emotion and pixels, or a folder holding
    fer2013.csv, fer2013/fer2013.csv, icml_face_data.csv or train.csv. Without Usage too, as in
    Kaggle's train.csv, so that `load` can say what is missing.
    """
    file = _find(path)
    if file is None:
        return False
    with file.open("rb") as stream:
        return {"emotion", "pixels"} <= {name.lower() for name in _names(stream.readline(1 << 16))}


def _pixels(text: bytes) -> np.ndarray:
    """`b"70 80 82 ..."` → (48, 48) uint8."""
    text, count = text.strip(), _SIDE * _SIDE
    if text.translate(None, b"0123456789 "):  # fromstring must see digits only, or it guesses
        for place, word in enumerate(text.split(), 1):
            if not word.isdigit():
                raise _BadRow(f"pixel {place} is {_short(word)}, not a whole number from 0 to 255")
    values = np.fromstring(text, np.int64, sep=" ")  # 0.04 ms; int() on each number: 0.27 ms
    if len(values) != count:
        raise _BadRow(f"{len(values)} pixels instead of {count}")
    if values.max() > 255:
        place = int((values > 255).argmax())
        raise _BadRow(f"pixel {place + 1} is {values[place]}, outside 0 to 255")
    return values.astype(np.uint8).reshape(_SIDE, _SIDE)


def _short(text: bytes) -> str:
    return repr(text[:20].decode("utf-8", "replace"))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(pixels: np.ndarray) -> bytes:
    """(48, 48) uint8 → PNG of 2,420 bytes, its pixels stored without compression.

    Not pillow: its bytes depend on its version of zlib, but the fingerprint of the data must be the
    same on every machine. Nine times as fast, too: 3 s for all faces instead of 29 s.
    """
    lines = np.zeros((_SIDE, 1 + _SIDE), np.uint8)  # PNG: each line begins with its filter, 0
    lines[:, 1:] = pixels
    raw = lines.tobytes()
    stored = struct.pack("<BHH", 1, len(raw), 0xFFFF ^ len(raw)) + raw  # one last, stored block
    data = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(raw))
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 0, 0, 0, 0)  # 8 bit gray
    parts = _chunk(b"IHDR", header), _chunk(b"IDAT", data), _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _columns(line: bytes, name: str) -> tuple[list[int], int]:
    """Places of emotion, pixels and Usage in a row, and how many columns a row has."""
    found = _names(line)
    lower = [column.lower() for column in found]
    missing = [column for column in _COLUMNS if column.lower() not in lower]
    if missing:
        advice = ""
        if missing == ["Usage"]:
            advice = (
                f". Usage tells a row's split ({', '.join(USAGES)}): give fer2013.csv or "
                "icml_face_data.csv of the same pictures, or add the column; a test.csv without "
                "emotions cannot be measured on"
            )
        raise ValueError(
            f"{name} has no column {', '.join(missing)}; found {[c[:40] for c in found[:8]]}, "
            f"expected {', '.join(_COLUMNS)} in any order, separated by commas, semicolons or tabs"
            f"{advice}"
        )
    return [lower.index(column.lower()) for column in _COLUMNS], len(found)


def _row(line: bytes, places: list[int], width: int, separator: bytes) -> tuple[str, bytes, int]:
    """One line → split, PNG, label."""
    cells = _cells(line, separator)
    if len(cells) != width:
        columns = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
        raise _BadRow(f"{columns} instead of {width}")
    emotion, pixels, usage = (cells[place].strip() for place in places)
    if emotion not in _LABELS:
        raise _BadRow(f"emotion {_short(emotion)} is none of 0 to {len(CLASS_NAMES) - 1}")
    if usage.lower() not in _USAGE:
        raise _BadRow(f"Usage {_short(usage)} is none of {', '.join(USAGES)}")
    return _USAGE[usage.lower()], _png(_pixels(pixels)), _LABELS[emotion]


class _Kept(NamedTuple):
    """The faces of one split, in the file's order."""

    images: list[bytes]
    labels: list[int]
    rows: list[int]


def _read(file: Path, strict: bool, progress: bool) -> tuple[dict[str, _Kept], int, list[str]]:
    """What is kept of each split, how many rows there are, and why some were left out."""
    kept = {split: _Kept([], [], []) for split in USAGES.values()}
    total, bad = 0, []
    with (
        file.open("rb") as stream,
        tqdm(total=file.stat().st_size, desc=file.name, unit="B", unit_scale=True,
             disable=not progress, leave=False) as bar,
    ):  # fmt: skip
        header = stream.readline(1 << 16)
        places, width = _columns(header, file.name)
        separator = _separator(header)
        for number, line in enumerate(stream, 2):
            bar.update(len(line))
            if not line.strip():  # no row, and not counted as one
                continue
            try:
                split, image, label = _row(line, places, width, separator)
            except _BadRow as reason:
                if strict:
                    raise ValueError(f"{file.name}, line {number}: {reason}") from None
                bad.append(f"line {number}: {reason}")
            else:
                images, labels, rows = kept[split]
                images.append(image)
                labels.append(label)
                rows.append(total)
            total += 1
    return kept, total, bad


def _report(name: str, total: int, bad: Sequence[str]) -> str:
    first = f"{name}: {total - len(bad):,} of {total:,} rows kept"
    return "\n".join([f"{first}, {len(bad):,} left out", *first_lines(bad)]) if bad else first


def load(path: str | Path, *, strict: bool = False, progress: bool = True) -> DatasetDict:
    """`train`, `validation` (PublicTest) and `test` (PrivateTest), rows in the file's order, with
    `image` (PNG, 48 x 48 gray, lossless), `label` (a ClassLabel of CLASS_NAMES) and `row` (int32).

    `path` is the CSV, its columns in any order, or a folder that holds it. A row that cannot be
    used is left out; each split's `info.description` tells how many were kept and, line by line,
    what was wrong with the first 20. `strict=True` raises ValueError at the first instead.
    `row` counts the file's rows from 0 over all three Usages, rows left out too but neither the
    header nor blank lines. FER+ has a row for each row of Kaggle's file, in the same order, so
    this is the number of the face's votes there, whatever was left out.
    The whole file takes 5 s of one core and 0.4 GB; `progress` shows a bar. Writes nothing.
    Raises FileNotFoundError where there is no such file, ValueError for a missing column or a
    split without a row.
    """
    file = _find(path)
    if file is None:
        raise FileNotFoundError(f"no fer2013.csv at {path}; expected the file, or a folder with it")
    kept, total, bad = _read(file, strict, progress)
    report = _report(file.name, total, bad)
    empty = [f"{split} (Usage {usage})" for usage, split in USAGES.items() if not kept[split].rows]
    if empty:
        raise ValueError(f"no row for {', '.join(empty)}. {report}")
    kinds = {"image": Image(), "label": ClassLabel(names=list(CLASS_NAMES)), "row": Value("int32")}
    splits = DatasetDict()
    for split, (images, labels, rows) in kept.items():
        nowhere = pa.nulls(len(images), pa.string())  # the pictures have no files of their own
        image = pa.StructArray.from_arrays([pa.array(images), nowhere], names=["bytes", "path"])
        features = Features(kinds)
        columns = [image, pa.array(labels, pa.int64()), pa.array(rows, pa.int32())]
        table = pa.Table.from_arrays(columns, schema=features.arrow_schema)
        splits[split] = Dataset(table, info=DatasetInfo(description=report, features=features))
    return splits


# --- any splits with named classes ---


def _class_names(rows: Dataset, split: str) -> list[str]:
    kind = rows.features.get("label")
    if not isinstance(kind, ClassLabel) or not kind.names:
        raise ValueError(f"{split}: no column label with named classes; found {rows.features}")
    return kind.names


def merge(splits: DatasetDict, mapping: Mapping[str, str] = FOUR) -> DatasetDict:
    """Relabel by `mapping` {class name: new name}; names are joined as in `lab.class_names`.

    The new classes are those that the old ones map to, sorted, the same in every split. Pictures,
    other columns and `info.description` stay as they are. Raises ValueError for a class that
    `mapping` does not name, a label outside the classes, or a column label without class names.
    """
    target = {canonical(old): new for old, new in mapping.items()}
    old_names = {split: _class_names(rows, split) for split, rows in splits.items()}
    present = {canonical(name): name for names in old_names.values() for name in names}
    unknown = sorted(present[name] for name in present.keys() - target.keys())
    if unknown:
        raise ValueError(f"the mapping has no {', '.join(unknown)}; it names {sorted(mapping)}")
    new_names = sorted({target[name] for name in present})
    merged = DatasetDict()
    for split, rows in splits.items():
        table, names = arrow_table(rows), old_names[split]
        lookup = pa.array([new_names.index(target[canonical(n)]) for n in names], pa.int64())
        try:
            labels = lookup.take(table["label"].combine_chunks())
        except IndexError as error:
            raise ValueError(f"{split}: a label is none of 0 to {len(names) - 1}") from error
        merged[split] = with_column(rows, table, "label", labels, ClassLabel(names=new_names))
    return merged
