"""SOURCE → a stream of pictures and films: folders, parquet tables, lists, object stores.

Why: ten million names do not fit into memory comfortably, so none is held: each goes on to a worker
as it is found.
"""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from expression.bulk.stores import (
    absolute,
    first_words,
    is_store,
    open_file,
    store_errors,
    store_of,
)  # fmt: skip
from expression.file_kinds import is_picture_name, is_url, is_video_name
from expression.files import shown
from expression.input_names import expand, files_below, passed_over_words

__all__ = ["Item", "Source", "beside", "picture_column"]

LISTS, TABLE = (".txt", ".lst"), ".parquet"
# Columns of paths and addresses that are taken without --column, the first that is there
NAMED = ("image", "picture", "photo", "img", "path", "file_name", "filename", "file", "url")


@dataclass(frozen=True)
class Item:
    """A picture or film: `name` is unique and goes into the result, `place` is what is opened.

    A picture in a parquet table is row `offset` of row group `group`, in `column`. `error` is the
    reason where it is known already that there is nothing to open.
    """

    name: str
    place: str
    column: str = ""
    group: int = -1
    offset: int = 0
    error: str = ""

    def packed(self) -> list[Any]:
        """For JSON; `Item(*packed)` is the same again."""
        return list(astuple(self))


@dataclass
class Source:
    """What was given to label; `column` is that of parquet tables, None: found by its type.

    `skip` is a folder that is left out (of the results, which may lie inside the source).
    `passed_over` counts files that were left out, by ending, while they are listed.
    """

    given: Sequence[str]
    column: str | None = None
    skip: str = ""

    def __post_init__(self) -> None:
        self.passed_over: Counter[str] = Counter()

    def check(self) -> None:
        """Raises FileNotFoundError where one of those given is missing, before a long run, and
        OSError where a store does not answer."""
        for name in self.given:
            if is_url(name) or (glob.has_magic(name) and not is_store(name)):
                continue
            fs, path = store_of(name)
            with store_errors(name):
                there = fs.exists(path)
            if not there:
                raise FileNotFoundError(f"there is no {shown(name)}; check name and folder")

    def items(self) -> Iterator[Item]:
        """Every picture and film, in the order of the file systems. Raises ValueError for a folder
        without any, and for a table without a column of pictures."""
        for name in self.given:
            yield from self._of(name)

    def _of(self, name: str) -> Iterator[Item]:
        if is_url(name):
            yield Item(name, name)
            return
        if glob.has_magic(name) and not is_store(name) and not os.path.exists(name):
            for found in expand([name]).names:
                yield from self._of(found)
            return
        fs, path = store_of(name)
        place, ending = absolute(name), PurePosixPath(path).suffix.lower()
        if fs.isdir(path):
            yield from self._below(place)
        elif ending == TABLE:
            yield from self._rows(place)
        elif ending in LISTS:
            yield from listed(place)
        else:
            yield Item(place, place)

    def _below(self, folder: str) -> Iterator[Item]:
        """Pictures and films below a folder; where there is none, the rows of its tables."""
        taken, kinds = False, Counter[str]()
        for place, kind in names_below(folder):
            if self.skip and place.startswith(self.skip):
                continue
            if kind is None:
                taken = True
                yield Item(place, place)
            else:
                kinds[kind] += 1
        tables = kinds.pop(TABLE, 0) if not taken else 0
        self.passed_over += kinds
        if not taken and not tables:
            words = passed_over_words(kinds)
            raise ValueError(
                f"{shown(folder)} holds no picture, film or parquet table{words and f' ({words})'}"
            )
        if tables:
            for place, kind in names_below(folder):
                if kind == TABLE and not (self.skip and place.startswith(self.skip)):
                    yield from self._rows(place)

    def _rows(self, place: str) -> Iterator[Item]:
        try:
            with open_file(place) as file:
                table = pq.ParquetFile(file)
                column = picture_column(table.schema_arrow, self.column, place)
                counts = [table.metadata.row_group(k).num_rows for k in range(table.num_row_groups)]
        except (OSError, pa.ArrowInvalid) as error:
            words = f"{shown(place)} is not a whole parquet table ({first_words(error)})"
            yield Item(place, place, error=words)
            return
        number = 0
        for group, count in enumerate(counts):
            for offset in range(count):
                yield Item(f"{place}#{number}", place, column, group, offset)
                number += 1


def names_below(folder: str) -> Iterator[tuple[str, str | None]]:
    """As `expression.input_names.files_below`, also in an object store."""
    if not is_store(folder):
        yield from files_below(folder)
        return
    fs, path = store_of(folder)
    for place, _, files in fs.walk(path):
        for name in files:
            if name[0] != ".":
                taken = is_picture_name(name) or is_video_name(name)
                ending = PurePosixPath(name).suffix.lower()
                yield str(fs.unstrip_protocol(f"{place}/{name}")), None if taken else ending
        fs.invalidate_cache()  # it would keep every name


def listed(place: str) -> Iterator[Item]:
    """The pictures that a text file names, one a line; blank lines are passed over."""
    with open_file(place) as file:
        for line in file:
            name = line.strip(b"\r\n").decode("utf-8", "surrogateescape")
            if name.strip():
                found = beside(place, name)
                yield Item(found, found)


def beside(table: str, name: str) -> str:
    """What a table or list means by a name: a relative one lies beside the table."""
    if "://" in name:
        return name
    if os.path.isabs(name):
        return os.path.normpath(name)
    if is_store(table):
        return f"{table.rpartition('/')[0]}/{name}"
    return os.path.normpath(os.path.join(os.path.dirname(table), name))


def picture_column(schema: pa.Schema, wanted: str | None, table: str) -> str:
    """The column of pictures: of bytes, of Hugging Face's {bytes, path}, or of paths.

    Raises ValueError, listing the columns, where there is none or there are several.
    """
    kinds = {field.name: column_kind(field.type) for field in schema}
    if wanted is not None:
        if not kinds.get(wanted):
            raise ValueError(f"{shown(table)} has no column {wanted!r} of pictures: {told(schema)}")
        return wanted
    for kind in ("image", "bytes"):
        found = [name for name, its in kinds.items() if its == kind]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{shown(table)} has several columns of pictures; choose by --column: "
                             f"{', '.join(map(shown, found))}")  # fmt: skip
    named = [name for name in NAMED if kinds.get(name) == "name"]
    if not named:
        raise ValueError(
            f"{shown(table)} has no column that looks like pictures; choose by --column: "
            f"{told(schema)}"
        )
    return named[0]


def column_kind(kind: pa.DataType) -> str:
    """ "image" for {bytes, path}, "bytes", "name" for text, "" for what holds no picture."""
    if pa.types.is_struct(kind):
        names = {kind.field(k).name for k in range(kind.num_fields)}
        return "image" if {"bytes", "path"} & names else ""
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "bytes"
    return "name" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else ""


def told(schema: pa.Schema) -> str:
    return ", ".join(f"{shown(field.name)} ({field.type})" for field in schema)
