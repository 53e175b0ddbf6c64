"""What several readers need: a report of what was left out, picture checks, columns of a table."""

import hashlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import PIL.Image
import pyarrow as pa
from datasets import Dataset, Features

from expression.deep_colour import full_range
from expression.file_kinds import FORMATS, is_heic, register_heic, special_kind
from expression.files import shown
from expression.picture_decoding import check_size

__all__ = ["Report", "arrow_table", "distinct", "first_lines", "picture_content", "picture_digest",
           "why_not_open", "with_column", "with_full_range"]  # fmt: skip

SHOWN = 20  # lines of a report
LARGEST = 64 << 20  # bytes of a picture's file; the largest of a face set have a few million


def first_lines(lines: Sequence[str]) -> list[str]:
    """The first 20 lines, and how many more there are."""
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], *([f"… and {more:,} more"] if more > 0 else [])]


@dataclass
class Report:
    """What a reader left out and why. With `strict` the first entry is raised as a ValueError."""

    strict: bool
    notes: list[str] = field(default_factory=list)  # about many pictures: all are shown
    lines: list[str] = field(default_factory=list)  # about one file each: the first 20 are shown
    places: dict[str, list[str]] = field(default_factory=dict)  # by reason: 20 reasons are shown

    def note(self, text: str) -> None:
        self.notes.append(self._entry(text))

    def line(self, text: str) -> None:
        self.lines.append(self._entry(text))

    def count(self, reason: str, place: object) -> None:
        """One more place where this reason was met; three places of each reason are shown."""
        self._entry(f"{reason}: {place}")
        self.places.setdefault(printable(reason), []).append(printable(str(place)))

    def reasons(self) -> list[str]:
        """One line a reason that was counted: how often, and the first places."""
        counted = []
        for reason, places in self.places.items():
            shown = places if len(places) <= 3 else [*places[:3], "…"]
            counted.append(f"{len(places):,} × {reason}: {', '.join(shown)}")
        return counted

    def text(self, *head: str) -> str:
        return "\n".join([*head, *self.notes, *first_lines(self.lines + self.reasons())])

    def why(self) -> str:
        """All of it in one line, for an error that it is the reason of."""
        return "; ".join([*self.notes, *first_lines(self.lines + self.reasons())])

    def _entry(self, text: str) -> str:
        if self.strict:
            raise ValueError(f"{printable(text)} (refused by strict=True)")
        return printable(text)


def printable(text: str) -> str:
    """An entry of a report, one line whatever file names it holds: one may hold a line break."""
    return shown(text)


def picture_content(file: Path) -> bytes:
    """A picture's file, read whole. ValueError, without opening it, for a pipe, a socket or a
    device, which may have no end, and for a file larger than `LARGEST`."""
    if kind := special_kind(file):
        raise ValueError(f"a {kind}, not a file")
    if (size := file.stat().st_size) > LARGEST:
        raise ValueError(f"{size / 1e6:,.0f} MB; at most {LARGEST >> 20} MiB are read")
    return file.read_bytes()


def picture_digest(data: bytes) -> bytes:
    """SHA-256 of an encoded picture. Raises nearly any error unless all its pixels decode, and
    ValueError for one that takes too much memory (`check_size`).

    HEIC is decoded, here and whenever the picture is read later, where pillow-heif is installed.
    """
    heic = is_heic(data[:64])
    if heic and not register_heic():
        raise PIL.UnidentifiedImageError("HEIC")
    with warnings.catch_warnings():  # `check_size` has a lower limit than pillow's error
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
        opened = PIL.Image.open(io.BytesIO(data), formats=("HEIF",) if heic else FORMATS)
    with opened as image:
        check_size(image, "the picture")
        image.load()  # `open` reads the header alone
    return hashlib.sha256(data).digest()


def why_not_open(error: Exception) -> str:
    """What `picture_digest`, or reading the file, raised, in words for a report."""
    if isinstance(error, PIL.UnidentifiedImageError):  # its message names a Python object
        return "no known picture format"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def with_full_range(data: bytes) -> bytes:
    """An encoded picture, anew as PNG where it has few of 16 bits in colour: see `full_range`."""

    def reopen() -> PIL.Image.Image:
        return PIL.Image.open(io.BytesIO(data), formats=FORMATS)

    if data.startswith((b"\xff\xd8", b"GIF8")) or (
        data[:4] == b"\x89PNG" and data[24:25] <= b"\x08"
    ):
        return data  # 8 bits or fewer, said by its first bytes: opening it again takes as long
    if is_heic(data[:64]) or (bright := full_range(image := reopen(), reopen)) is image:
        return data
    file = io.BytesIO()
    bright.save(file, "PNG", exif=bright.getexif())
    return file.getvalue()


class Labelled(Protocol):
    @property
    def digest(self) -> bytes: ...

    @property
    def label(self) -> str: ...


L = TypeVar("L", bound=Labelled)


def distinct(pictures: Sequence[L]) -> tuple[list[L], list[tuple[L, L]], list[list[L]]]:
    """One of each set of identical pictures, and what has to be left out.

    Returns the pictures to keep, (first, copy) pairs of one class, and sets of identical pictures
    with different labels, of which none is kept.
    """
    same: dict[bytes, list[L]] = {}
    for picture in pictures:
        same.setdefault(picture.digest, []).append(picture)
    agreeing = [group for group in same.values() if len({p.label for p in group}) == 1]
    contradicting = [group for group in same.values() if len({p.label for p in group}) > 1]
    copies = [(group[0], copy) for group in agreeing for copy in group[1:]]
    return [group[0] for group in agreeing], copies, contradicting


def arrow_table(rows: Dataset) -> pa.Table:
    """The rows as they are stored, selections and shuffles applied; no picture is decoded."""
    batches = list(rows.with_format("arrow").iter(1000))  # all at once would fail beyond 2 GB
    return pa.concat_tables(batches) if batches else rows.features.arrow_schema.empty_table()


def with_column(
    rows: Dataset, table: pa.Table, name: str, values: pa.Array, feature: Any
) -> Dataset:
    """`table` as a Dataset like `rows`, with column `name` added, or replaced in its place."""
    if name in table.column_names:
        table = table.set_column(table.column_names.index(name), name, values)
    else:
        table = table.append_column(name, values)
    info = rows.info.copy()
    info.features = Features(rows.features | {name: feature})
    metadata = info.features.arrow_schema.metadata
    return Dataset(table.replace_schema_metadata(metadata), info=info, split=rows.split)
