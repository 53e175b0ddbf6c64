"""Split names, in one place: every reader gives `train`, `validation` and `test`."""

import hashlib
from collections.abc import Mapping, Sequence

from datasets import ClassLabel, Dataset, DatasetDict, Features, Image

__all__ = ["SPLITS", "USAGES", "build_split", "check_columns", "rename_columns", "rename_splits",
           "seeded_hash", "split_name"]  # fmt: skip

SPLITS = ("train", "validation", "test")
USAGES = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}  # FER2013, FER+
_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid", "dev", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}

_COLUMNS = {"img": "image", "labels": "label"}  # other names of the hub's data sets


def split_name(name: str) -> str | None:
    """ "Val" → "validation"; None for a name that is not a split's. Capitals do not matter."""
    return _NAMES.get(name.lower())


def rename_splits(splits: DatasetDict) -> DatasetDict:
    """The same splits under the names in SPLITS; other splits keep their names, in lower case.

    Raises ValueError where two names mean the same split: one would be lost.
    """
    named: dict[str, str] = {}
    for s in splits:
        name = split_name(s) or s.lower()
        if name in named:
            raise ValueError(f"{named[name]} and {s} both name the split {name}; leave one out")
        named[name] = s
    return DatasetDict({name: splits[s] for name, s in named.items()})


def check_columns(rows: Dataset, where: str) -> None:
    """Raises ValueError, listing the columns found, without `image` or `label`."""
    missing = [c for c in ("image", "label") if c not in rows.column_names]
    if missing:
        raise ValueError(f"{where} has no column {', '.join(missing)}; found {rows.column_names}")


def rename_columns(rows: Dataset) -> Dataset:
    """The same rows with `img` as `image` and `labels` as `label`, where those names are free."""
    found = {old: new for old, new in _COLUMNS.items() if old in rows.column_names}
    free = {old: new for old, new in found.items() if new not in rows.column_names}
    return rows.rename_columns(free) if free else rows


def build_split(
    images: Sequence[Mapping[str, bytes | str | None]], labels: list[int], class_names: list[str]
) -> Dataset:
    """A split from pictures, {"bytes": …, "path": …} each, and class indices."""
    features = Features(image=Image(), label=ClassLabel(names=class_names))
    return Dataset.from_dict({"image": images, "label": labels}, features=features)


def seeded_hash(seed: int, name: str) -> bytes:
    """A random-looking sort key that is the same on every machine and in every library version."""
    return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()
