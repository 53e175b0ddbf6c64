"""The label column of a table, in whatever form it was written → class indices and class names.

Why: collections write classes as numbers with names, as words, as words with other capitals in the
next split, as whole numbers that pandas turned into floats beside an empty cell. What has one
meaning is read; a number without a name is refused, for nobody can say what it means. -1 and an
empty cell are how Hugging Face and pandas write "unlabelled": such a row has no class.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import ClassLabel, Dataset

from lab.class_names import canonical

__all__ = ["class_labels"]


def class_labels(
    splits: Mapping[str, Dataset],
    where: str,
    class_names: Sequence[str] | None,
) -> tuple[list[str], dict[str, list[int | str | None]]]:
    """(class names, {split: for each row its number, which may be none of a class; None for a row
    without a label; or, as a word, a class that train lacks}).

    `class_names` names the classes of bare numbers, in their order. Words become class names: each
    class by its `canonical` word, sorted. Raises ValueError for numbers without names and classes
    named otherwise.
    """
    kinds = {split: rows.features["label"] for split, rows in splits.items() if len(rows)}
    found = {split: list(map(_plain, splits[split]["label"][:])) for split in splits}
    if any(isinstance(kind, ClassLabel) for kind in kinds.values()):
        names = _agreed(kinds, where, class_names)
    else:
        cells = [k for values in found.values() for k in values if k is not None]
        if cells and all(isinstance(k, str) for k in cells):
            if not all(k.isdecimal() for k in cells):
                return _from_words(found, where, class_names)
        elif class_names is not None and not all(isinstance(k, int) for k in cells):
            class_names = None  # no names for 0.5, nor for lists
        if class_names is None:
            raise ValueError(
                f"{where}: column label is {_told(kinds, cells)} without class names; say what the "
                "numbers mean by class_names=[...], in their order, or write words in the column"
            )
        names = list(class_names)
    return names, {
        split: [None if k is None else int(k) for k in values] for split, values in found.items()
    }


def _plain(value: Any) -> Any:
    """A cell as a word, a number or None: 3.0 is 3; NaN, spaces and -1 are no label."""
    if isinstance(value, float):
        if value != value:
            return None
        value = int(value) if value.is_integer() else value
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        value = value.strip()
        return None if value in ("", "-1") else value
    return None if value == -1 else value


def _told(kinds: Mapping[str, Any], cells: Sequence[Any]) -> str:
    """The type of the column, with an example where that says more than the type."""
    kind = next(iter(kinds.values()), None)
    odd = next((k for k in cells if not isinstance(k, int)), None)
    return f"{getattr(kind, 'dtype', kind)}{'' if odd is None else f' (such as {odd!r})'}"


def _agreed(kinds: Mapping[str, Any], where: str, class_names: Sequence[str] | None) -> list[str]:
    """The names that every split gives to its numbers."""
    names = list(class_names) if class_names is not None else None
    by = "class_names"
    for split, kind in kinds.items():
        own = getattr(kind, "names", None)
        if own is None:
            raise ValueError(
                f"{where} ({split}): column label is {getattr(kind, 'dtype', kind)} without class "
                "names, but another split has names"
            )
        if names is None:
            names, by = own, split
        if own != names:
            raise ValueError(
                f"{where} ({split}) names its classes {own}, but {by} names them {names}"
            )
    return names or []


def _from_words(
    found: Mapping[str, list[Any]], where: str, class_names: Sequence[str] | None
) -> tuple[list[str], dict[str, list[int | str | None]]]:
    """Classes of words: those given, or those of train."""
    own = {canonical(k) for k in found["train"] if k is not None}
    names = sorted(own) if class_names is None else list(class_names)
    index = {canonical(name): k for k, name in enumerate(names)}
    if class_names is not None and (unknown := sorted(own - index.keys())):
        raise ValueError(f"{where} has the class {unknown[0]!r}, which is none of {names}")
    return names, {
        split: [None if k is None else index.get(canonical(k), canonical(k)) for k in values]
        for split, values in found.items()
    }
