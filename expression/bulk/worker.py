"""What a worker does: some pictures in, a table of their faces out, with one thread.

A picture that cannot be opened is a row with the reason. What is wrong with the worker itself (no
checkpoint, another one, no memory for the network) is a `Failure`, which ends the run.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from expression.bulk.films import Piece, follow_piece, numbered
from expression.bulk.rows import empty_row, face_rows, table_of
from expression.bulk.sources import Item, beside
from expression.bulk.stores import absolute, first_words, is_store, open_file, store_errors
from expression.checkpoint import resolve_checkpoint
from expression.face_detector import FaceFinder
from expression.face_prediction import FacePrediction
from expression.file_kinds import is_url
from expression.files import shown
from expression.memory import give_back_large_blocks
from expression.pictures import LONGEST, open_picture
from expression.predictor import ExpressionPredictor

__all__ = ["Labeller", "Settings", "WorkFailure", "open_place", "sha256_of"]

TOGETHER, PIXELS = 8, 30_000_000  # pictures that go through the networks at once; in all


class WorkFailure(ValueError):
    """A worker that cannot work; its message is one sentence for whoever started the run."""


@dataclass(frozen=True)
class Settings:
    """What decides the answers; a folder of results is of one of them."""

    checkpoint: str | None = None  # as `expression.checkpoint.resolve_checkpoint` takes it
    model_sha256: str = ""  # of the checkpoint; a worker with another one stops the run
    whole: bool = False  # each picture is one face, cropped already
    min_confidence: float | None = None  # None: the checkpoint's own
    smallest: float | None = None  # see `FaceFinder`
    allow_private: bool = False  # see `expression.download.fetch`

    def predictor(self) -> ExpressionPredictor:
        """Raises as `ExpressionPredictor`, and WorkFailure where the checkpoint is another one."""
        path = resolve_checkpoint(self.checkpoint)
        if self.model_sha256 and sha256_of(path) != self.model_sha256:
            raise WorkFailure(
                f"a worker's {shown(path)} is not the checkpoint that the run began with; give "
                "every machine the same files"
            )
        finder = FaceFinder(smallest=self.smallest)
        return ExpressionPredictor(path, finder, min_confidence=self.min_confidence)


def sha256_of(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def open_place(place: str, allow_private: bool = False) -> Image.Image:
    """A picture from a path, a web address or an object store. Raises OSError or ValueError."""
    if is_url(place):
        return open_picture(place, longest=LONGEST, allow_private=allow_private)
    if not is_store(place):
        return open_picture(Path(place), longest=LONGEST)
    with store_errors(place), open_file(place) as file:
        return open_picture(file, longest=LONGEST)


class Labeller:
    """Call it with a batch of chunks (column `chunk`, JSON): the rows of their pictures or films.

    One is made in each worker; the networks are loaded with the first chunk.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._predictor: ExpressionPredictor | None = None
        self._rows = RowReader()

    @property
    def predictor(self) -> ExpressionPredictor:
        if self._predictor is None:
            give_back_large_blocks()
            self._predictor = self.settings.predictor()
        return self._predictor

    def __call__(self, batch: pa.Table) -> pa.Table:
        try:
            chunks = map(json.loads, batch["chunk"].to_pylist())
            return pa.concat_tables([
                self.follow(Piece.unpacked(chunk["film"])) if isinstance(chunk, dict)
                else self.label([Item(*values) for values in chunk])
                for chunk in chunks
            ])  # fmt: skip
        except MemoryError:
            os._exit(1)  # as if it had been killed: others try again, each picture alone
        except Exception as error:  # Ray would show pages of it, again and again
            words = str(error) if isinstance(error, ValueError | OSError) else repr(error)
            return pa.table({"failure": [first_words(ValueError(words))]})

    def label(self, items: Sequence[Item]) -> pa.Table:
        """The rows of some pictures."""
        names = self.predictor.class_names
        rows: list[list[Any]] = []
        for some in together(self.opened(items)):
            for (item, image), faces in zip(some, self.answered(some), strict=True):
                if isinstance(image, str) or isinstance(faces, str):
                    error = image if isinstance(image, str) else str(faces)
                    rows.append(empty_row(item.name, names, self.settings.model_sha256, error))
                else:
                    rows += face_rows(item.name, faces, names, self.settings.model_sha256)
        return table_of(rows, names)

    def follow(self, piece: Piece) -> pa.Table:
        """The rows of a piece of a film; one with the reason where it cannot be read."""
        model = self.settings.model_sha256
        try:
            return follow_piece(self.predictor, piece, model)
        except WorkFailure:
            raise
        except (OSError, ValueError) as error:
            names = self.predictor.class_names
            row = empty_row(piece.item.name, names, model, str(error))
            return numbered(table_of([row], names), piece.number)

    def opened(self, items: Sequence[Item]) -> Iterator[tuple[Item, Image.Image | str]]:
        """Each picture, or the reason why it cannot be opened."""
        for (place, column, group), some in groupby(
            items, key=lambda item: (item.place if item.column else "", item.column, item.group)
        ):
            if column:
                yield from self._rows.opened(place, column, group, list(some), self.open)
            else:
                for item in some:
                    yield item, item.error or self.open(item.place)

    def open(self, place: str | bytes) -> Image.Image | str:
        try:
            if isinstance(place, bytes):
                return open_picture(place, longest=LONGEST)
            return open_place(place, self.settings.allow_private)
        except (OSError, ValueError, ImportError) as error:
            return str(error) or type(error).__name__

    def answered(
        self, some: Sequence[tuple[Item, Image.Image | str]]
    ) -> list[list[FacePrediction] | str]:
        """The faces of each picture; a reason where even alone it has no answer."""
        images = [image for _, image in some if not isinstance(image, str)]
        try:
            found: list[list[FacePrediction] | str] = [*self.find(images)]
        except ValueError as error:
            if len(images) == 1:
                found = [str(error)]
            else:
                found = [answer for pair in some if not isinstance(pair[1], str)
                         for answer in self.answered([pair])]  # fmt: skip
        rest = iter(found)
        return [image if isinstance(image, str) else next(rest) for _, image in some]

    def find(self, images: Sequence[Image.Image]) -> list[list[FacePrediction]]:
        if self.settings.whole:
            return [[face] for face in self.predictor.predict_whole(images)] if images else []
        return self.predictor.find_opened(images)


class RowReader:
    """Pictures of a parquet table's row group; goes on where it stood, so that a large one is not
    read from its beginning for each chunk."""

    def __init__(self) -> None:
        self._at: tuple[str, str, int] | None = None
        self._values: Iterator[Any] = iter(())
        self._next = 0

    def opened(
        self, place: str, column: str, group: int, items: Sequence[Item], open_one: Any
    ) -> Iterator[tuple[Item, Image.Image | str]]:
        for item in items:
            try:
                value = self._value(place, column, group, item.offset)
            except (OSError, pa.ArrowInvalid, StopIteration) as error:
                self._at = None
                yield item, f"{shown(place)} cannot be read ({first_words(error)})"
                continue
            if isinstance(value, dict):
                value = value.get("bytes") or value.get("path")
            if isinstance(value, str):
                yield item, open_one(absolute_name(place, value))
            elif value is None:
                yield item, "the table holds nothing in this row"
            else:
                yield item, open_one(bytes(value))

    def _value(self, place: str, column: str, group: int, offset: int) -> Any:
        if self._at != (place, column, group) or offset < self._next:
            self._values, self._next = values_of(place, column, group), 0
            self._at = (place, column, group)
        while True:
            value = next(self._values)
            self._next += 1
            if self._next > offset:
                return value


def values_of(place: str, column: str, group: int) -> Iterator[Any]:
    """The values of a column in one row group, some at a time."""
    with open_file(place) as file:
        table = pq.ParquetFile(file)
        for batch in table.iter_batches(TOGETHER, row_groups=[group], columns=[column]):
            yield from batch.column(0).to_pylist()


def absolute_name(table: str, name: str) -> str:
    found = beside(table, name)
    return found if "://" in found else absolute(found)


def together(
    opened: Iterator[tuple[Item, Image.Image | str]],
) -> Iterator[list[tuple[Item, Image.Image | str]]]:
    """Some pictures at a time, fewer of large ones."""
    some: list[tuple[Item, Image.Image | str]] = []
    pixels = 0
    for pair in opened:
        some.append(pair)
        pixels += 0 if isinstance(pair[1], str) else pair[1].width * pair[1].height
        if len(some) == TOGETHER or pixels > PIXELS:
            yield some
            some, pixels = [], 0
    if some:
        yield some
