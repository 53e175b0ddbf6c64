"""Long films on many workers: pieces of a minute, whose tracks are joined where they overlap.

Each piece begins some seconds early, so that its tracker knows the faces when its own time begins.
In those seconds two pieces follow the same faces: tracks whose boxes overlap there are one. The
rows of a piece wait in DIR/pieces until all of its film are there; then the film becomes one part,
each frame once, and its tracks are numbered over the whole film. A person who is away for longer
than the overlap comes back with a new number, unlike in one process: what faces look like is never
written to a disk, so it does not get from one piece to the next.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from expression.bulk.rows import empty_row, face_rows, table_of
from expression.bulk.sources import Item
from expression.bulk.stores import is_store
from expression.face_prediction import Box, enlarged
from expression.faces import overlap
from expression.files import shown
from expression.places import best_first
from expression.predictor import ExpressionPredictor

__all__ = ["OVERLAP", "PIECE", "Piece", "follow_piece", "joined", "pieces_of"]

PIECE, OVERLAP = 60.0, 2.0  # seconds
SAME = 0.5  # of the smaller of two boxes lies in the other: they are one face


@dataclass(frozen=True)
class Piece:
    """The frames of a film from `begin` on, before `end` (None: to its end)."""

    item: Item
    number: int
    begin: float
    end: float | None

    def packed(self) -> list[Any]:
        """For JSON; `Piece.unpacked` is the same again."""
        return [self.item.packed(), self.number, self.begin, self.end]

    @classmethod
    def unpacked(cls, values: Sequence[Any]) -> "Piece":
        return cls(Item(*values[0]), *values[1:])


def pieces_of(item: Item) -> list[Piece]:
    """A film in pieces of about `PIECE`. Raises as `expression.frames.video_info`, and ValueError
    for one in an object store, of which each piece would have to be fetched whole."""
    from expression.frames import video_info  # loads FFmpeg: not for pictures

    if is_store(item.place):
        raise ValueError(f"{shown(item.place)} is a film in a store; give it as a file")
    seconds = video_info(Path(item.place)).seconds or 0.0
    count = max(round(seconds / PIECE), 1)
    ends = [*(k * PIECE for k in range(1, count)), None]
    return [Piece(item, k, k * PIECE, end) for k, end in enumerate(ends)]


def follow_piece(predictor: ExpressionPredictor, piece: Piece, model: str) -> pa.Table:
    """The rows of a piece, those of the overlap before it included, with two more columns.

    `piece` is its number, `frames` how many of its own frames were read. Raises as `read_frames`.
    """
    from expression.frames import read_frames, video_info

    path, track = Path(piece.item.place), predictor.tracker()
    width = video_info(path).width
    rows: list[list[Any]] = []
    frames = 0
    begin = max(piece.begin - OVERLAP, 0.0)
    with closing(read_frames(path, begin=begin)) as reader:
        for frame in reader:
            if piece.end is not None and frame.seconds >= piece.end:
                break
            frames += frame.seconds >= piece.begin
            faces = track(frame.image, frame.seconds)
            if faces:
                times = width / frame.image.width
                faces = [enlarged(face, times) for face in faces]
                rows += face_rows(
                    piece.item.name, faces, predictor.class_names, model, frame.seconds
                )
    rows = rows or [empty_row(piece.item.name, predictor.class_names, model)]
    return numbered(table_of(rows, predictor.class_names), piece.number, frames)


def numbered(table: pa.Table, piece: int, frames: int = 0) -> pa.Table:
    for name, value in (("piece", piece), ("frames", frames)):
        table = table.append_column(name, pa.array([value] * table.num_rows, pa.int32()))
    return table


def joined(tables: Iterable[pa.Table], pieces: Sequence[Piece]) -> Iterator[pa.Table]:
    """The tables of `follow_piece` in order → those of the film: each frame once, tracks joined."""
    before: pa.Table | None = None
    count = 0
    for table, piece in zip(tables, pieces, strict=True):
        table = table.drop_columns(["piece", "frames"])
        faces = table.filter(pc.greater(table["face"], 0))
        early = pc.less(faces["seconds"], piece.begin)
        same = same_tracks(before, faces.filter(early)) if before is not None else {}
        own = faces.filter(pc.invert(early))
        tracks = own["track"].to_pylist()
        for number in dict.fromkeys(tracks):  # in the order in which they appear
            if number not in same:
                count += 1
                same[number] = count
        place = own.schema.get_field_index("track")
        own = own.set_column(place, "track", pa.array([same[t] for t in tracks], pa.int32()))
        before = own
        yield own


def same_tracks(before: pa.Table, now: pa.Table) -> dict[int, int]:
    """{track of the later piece: track of the film} by the boxes of the frames that both have."""
    frames = [by_frame(before, now["seconds"]), by_frame(now, now["seconds"])]
    shared: Counter[tuple[int, int]] = Counter()
    for seconds in frames[0].keys() & frames[1].keys():
        pairs = [
            (-overlap(one, other), i, j)
            for i, (_, one) in enumerate(frames[1][seconds])
            for j, (_, other) in enumerate(frames[0][seconds])
            if overlap(one, other) > SAME
        ]
        for i, j in best_first(pairs).items():
            shared[frames[1][seconds][i][0], frames[0][seconds][j][0]] += 1
    return best_first([(-times, new, old) for (new, old), times in shared.items()])


Boxes = dict[float, list[tuple[int, Box]]]


def by_frame(table: pa.Table, seconds: pa.ChunkedArray) -> Boxes:
    """{seconds: [(track, box)]} of the frames from the first of `seconds` on."""
    found: Boxes = {}
    if len(seconds):
        table = table.filter(pc.greater_equal(table["seconds"], pc.min(seconds)))
        columns = table.select(["seconds", "track", "x", "y", "width", "height"])
        for at, track, *box in zip(*(c.to_pylist() for c in columns.columns), strict=True):
            x, y, width, height = box
            found.setdefault(at, []).append((track, (x, y, width, height)))
    return found
