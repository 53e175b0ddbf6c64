"""Pictures of any source → a folder of labels, each picture once, whatever is killed meanwhile.

The plan: names are read as a stream, those that are labelled already are left out, and the rest
goes in waves to workers, in chunks of some dozens. Answers come back to this process, which alone
writes. A picture is done when its part file has its name; all others are labelled again by the next
run. Ray may answer a chunk twice when a worker died: what was not expected any more is dropped.

Why not `Dataset.write_parquet` with Ray's checkpoints of jobs: their files are written by the
workers, so two files must agree after a kill, both on a disk that all machines share; they know
neither the model nor the settings; and rows of one film must be joined first. Faces are some 150
bytes each: one process writes those of a hundred thousand pictures in a second.
"""

import json
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, islice

import pyarrow as pa
import pyarrow.compute as pc

from expression.bulk.films import OVERLAP, PIECE, Piece, joined, pieces_of
from expression.bulk.keys import SeenKeys, key_of
from expression.bulk.results import Results
from expression.bulk.rows import SCHEMA_VERSION, empty_row, schema_of, table_of
from expression.bulk.sources import Item, Source
from expression.bulk.stores import absolute, first_words
from expression.bulk.worker import Labeller, Settings, WorkFailure, sha256_of
from expression.file_kinds import is_url, is_video_name
from expression.predictor import ExpressionPredictor

__all__ = ["Counts", "Engine", "Pace", "in_this_process", "label", "on_ray"]

KILLED = "the process that opened it was ended, each time: it takes too much memory, or breaks it"
# Chunks (JSON) → tables of their rows, in any order; chunks that a worker did not survive are
# missing
Engine = Callable[[Settings, Sequence[str]], Iterator[pa.Table]]


@dataclass(frozen=True)
class Pace:
    """How much is done at once: nothing of the answers depends on it."""

    chunk: int = 64  # pictures that a worker takes: some seconds
    part: int = 8192  # pictures in a part file
    part_seconds: float = 60.0  # a part is written after this time, however few there are
    wave: int = 20_000  # pictures whose names are with the workers at once, for each worker


@dataclass
class Counts:
    """Of one run; `before` were labelled by earlier ones."""

    before: int = 0
    pictures: int = 0
    faces: int = 0
    without: int = 0  # pictures without a face
    errors: int = 0
    parts: list[str] = field(default_factory=list)

    def add(self, table: pa.Table) -> None:
        broken = table.num_rows - table["error"].null_count
        empty = pc.sum(pc.equal(table["face"], 0)).as_py() or 0
        self.faces += table.num_rows - empty
        self.errors += broken
        self.without += empty - broken


def in_this_process(settings: Settings, chunks: Sequence[str]) -> Iterator[pa.Table]:
    """The engine without Ray: for tests, and as what Ray is measured against."""
    labeller = Labeller(settings)
    for chunk in chunks:
        yield labeller(pa.table({"chunk": [chunk]}))


def on_ray(workers: int) -> Engine:
    """The engine of Ray Data: a pool of `workers` actors. Ray has to be started."""
    return partial(run_on_ray, workers)


def run_on_ray(workers: int, settings: Settings, chunks: Sequence[str]) -> Iterator[pa.Table]:
    """Raises ConnectionError where Ray itself fails."""
    import ray.data

    rows = ray.data.from_items([{"chunk": c} for c in chunks], override_num_blocks=len(chunks))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Ray 2.64 will call otherwise
        tables = rows.map_batches(
            Labeller,
            fn_constructor_args=(settings,),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(chunks))),
            num_cpus=1,
            max_restarts=-1,
            max_task_retries=2,
        )
    try:
        yield from tables.iter_batches(batch_size=None, batch_format="pyarrow")
    except Exception as error:  # of many kinds: a cluster that was stopped, a network that is gone
        raise ConnectionError(f"Ray cannot go on ({first_words(error)})") from error


class Writer:
    """Collects rows into parts; what is not written yet is labelled again after a kill."""

    def __init__(self, results: Results, pace: Pace, counts: Counts) -> None:
        self.results, self.pace, self.counts = results, pace, counts
        self._tables: list[pa.Table] = []
        self._keys: list[bytes] = []
        self._since = time.monotonic()

    def add(self, table: pa.Table, keys: Iterable[bytes]) -> None:
        self._tables.append(table)
        self._keys += keys
        late = time.monotonic() - self._since > self.pace.part_seconds
        if late or len(self._keys) >= self.pace.part:
            self.flush()

    def flush(self) -> None:
        if self._tables:
            name = self.results.write_part(self._tables, self._keys)
            for table in self._tables:
                self.counts.add(table)
            self.counts.pictures += len(self._keys)
            self.counts.parts.append(name)
        self._tables, self._keys, self._since = [], [], time.monotonic()


def label(
    source: Source,
    out: str,
    settings: Settings,
    engine: Engine,
    pace: Pace = Pace(),
    workers: int = 1,
    progress: Callable[[int], object] | None = None,
) -> Counts:
    """Label what is not labelled yet; returns what this run did.

    `progress` is called with the number of pictures that were answered. Raises ValueError,
    OSError or WorkFailure, one sentence; what was labelled until then is kept.
    """
    source.check()
    predictor = checked(settings)
    settings = replace(settings, model_sha256=sha256_of(predictor.path))
    about = {
        "schema_version": SCHEMA_VERSION,
        "sources": [name if is_url(name) else absolute(name) for name in source.given],
        "model": {
            "name": predictor.path.stem,
            "sha256": settings.model_sha256,
            "class_names": list(predictor.class_names),
        },
        "settings": {
            "column": source.column,
            "whole": settings.whole,
            "min_confidence": predictor.min_confidence,
            "smallest": settings.smallest,
            "film_piece_seconds": PIECE,
            "film_overlap_seconds": OVERLAP,
        },
    }
    results, counts = Results(out), Counts()
    source.skip = f"{absolute(out)}/"
    with results.opened(about), ExitStack() as stack:
        seen = SeenKeys()
        for keys in results.keys():
            seen.add(keys)
        counts.before = len(seen)
        writer = Writer(results, pace, counts)
        stack.callback(finish, results, writer)
        job = Job(settings, engine, pace, predictor.class_names, writer, progress)
        films: list[Item] = []
        for wave in fresh_waves(source.items(), seen, pace.wave * workers):
            films += [item for item in wave if is_film(item)]
            if pictures := [item for item in wave if not is_film(item)]:
                job.run(pictures)
        job.follow(films, 8 * workers)
    return counts


def finish(results: Results, writer: Writer) -> None:
    """Also after Ctrl-C: keep what was answered, and say in the manifest what there is."""
    writer.flush()
    done = writer.counts.before + writer.counts.pictures
    results.write_manifest(parts=results.parts(), pictures=done)


def checked(settings: Settings) -> ExpressionPredictor:
    """The predictor, after one answer: broken weights must not become ten million reasons."""
    from PIL import Image

    predictor = settings.predictor()
    schema_of(predictor.class_names)
    predictor.predict_whole([Image.new("L", (64, 64), 128)])
    return predictor


def is_film(item: Item) -> bool:
    return not item.column and not is_url(item.place) and is_video_name(item.place)


def fresh_waves(items: Iterable[Item], seen: SeenKeys, most: int) -> Iterator[list[Item]]:
    """Items that were not seen before, each once, some at a time."""
    stream = iter(items)
    while some := list(islice(stream, most)):
        if fresh := [some[k] for k in seen.add([key_of(item.name) for item in some])]:
            yield fresh


@dataclass(frozen=True)
class Job:
    """One run: its engine, and where the rows go."""

    settings: Settings
    engine: Engine
    pace: Pace
    class_names: tuple[str, ...]
    writer: Writer
    progress: Callable[[int], object] | None = None

    def run(self, wave: Sequence[Item]) -> None:
        """Every item of a wave becomes rows, exactly once."""
        waiting = {key_of(item.name): item for item in wave}
        self.answer(waiting, self.pace.chunk)
        lost = len(waiting)
        if lost:  # a worker died of one of the chunk: each alone
            self.answer(waiting, 1)
        if len(waiting) == lost > 1 and lost == len(wave):
            raise WorkFailure(
                f"workers were ended on each of {lost} pictures; give them more memory, or fewer "
                "--workers"
            )
        for key, item in list(waiting.items()):
            self.take(self.row(item, KILLED), waiting, {key})

    def answer(self, waiting: dict[bytes, Item], size: int) -> None:
        """Have items answered in chunks; those that were leave `waiting`."""
        for table in self.answers(chunks_of(list(waiting.values()), size)):
            keys = set(pc.unique(table["key"]).to_pylist())
            if extra := keys - waiting.keys():  # answered a second time
                table = table.filter(pc.invert(pc.is_in(table["key"], binary(extra))))
            self.take(table, waiting, keys - extra)

    def answers(self, chunks: Sequence[str]) -> Iterator[pa.Table]:
        """Raises WorkFailure where a worker says that it cannot work."""
        for table in self.engine(self.settings, chunks):
            if "failure" in table.column_names:
                raise WorkFailure(table["failure"][0].as_py())
            yield table

    def take(self, table: pa.Table, waiting: dict[bytes, Item], keys: set[bytes]) -> None:
        for key in keys:
            del waiting[key]
        if keys:
            self.writer.add(table, keys)
            if self.progress is not None:
                self.progress(len(keys))

    # --- films ---

    def follow(self, films: Sequence[Item], most: int) -> None:
        """Films, of which at least `most` pieces are with the workers at once."""
        there = self.writer.results.pieces()
        wanted = {key_of(film.name) for film in films}
        for piece in there:
            if piece[0] not in wanted:  # its film is done; the run was killed before this
                self.writer.results.drop_piece(*piece)
        some: list[Piece] = []
        for number, film in enumerate(films, 1):
            try:
                some += pieces_of(film)
            except (OSError, ValueError) as error:
                self.take_film(film, [self.row(film, str(error))])
            if len(some) >= most or number == len(films):
                self.follow_pieces(some, there)
                some = []

    def follow_pieces(self, pieces: Sequence[Piece], there: set[tuple[bytes, int]]) -> None:
        """Whole films: their pieces, but those that are `there` already; then join them."""
        waiting = {(key_of(piece.item.name), piece.number): piece for piece in pieces}
        for done in there & waiting.keys():
            del waiting[done]
        for _ in range(2):  # again, where a worker did not survive it
            chunks = [json.dumps({"film": piece.packed()}) for piece in waiting.values()]
            for table in self.answers(chunks) if chunks else ():
                key, number = table["key"][0].as_py(), table["piece"][0].as_py()
                if waiting.pop((key, number), None) is not None:
                    self.writer.results.put_piece(key, number, table)
        lost = {piece.item.name for piece in waiting.values()}
        for name, some in groupby(pieces, key=lambda piece: piece.item.name):
            self.join(list(some), KILLED if name in lost else "")

    def join(self, pieces: Sequence[Piece], error: str) -> None:
        """The pieces of one film become a part."""
        film, results = pieces[0].item, self.writer.results
        key, frames = key_of(film.name), 0
        if not error:
            for piece in pieces:
                table = results.piece(key, piece.number)
                frames += table["frames"][0].as_py()
                error = error or table["error"][0].as_py() or ""
        if error:
            tables = [self.row(film, error)]
        else:
            read = (results.piece(key, piece.number) for piece in pieces)
            tables = [table for table in joined(read, pieces) if table.num_rows]
            tables = tables or [self.row(film)]
        self.take_film(film, tables, frames)
        for piece in pieces:
            results.drop_piece(key, piece.number)

    def row(self, film: Item, error: str = "") -> pa.Table:
        row = empty_row(film.name, self.class_names, self.settings.model_sha256, error)
        return table_of([row], self.class_names)

    def take_film(self, film: Item, tables: Sequence[pa.Table], frames: int = 0) -> None:
        """A part of its own, so that what is in DIR/pieces is not needed any more."""
        whole = pa.concat_tables(tables)
        about = {
            "source": whole["source"][0].as_py(),
            "frames": frames,
            "seconds": pc.max(whole["seconds"]).as_py(),
            "tracks": pc.max(whole["track"]).as_py() or 0,
        }
        self.writer.results.put_film(key_of(film.name), about)
        self.writer.flush()
        self.writer.add(whole, [key_of(film.name)])
        self.writer.flush()
        if self.progress is not None:
            self.progress(1)


def binary(keys: Iterable[bytes]) -> pa.Array:
    return pa.array(list(keys), pa.binary(16))


def chunks_of(items: Sequence[Item], size: int) -> list[str]:
    """JSON of some items each."""
    starts = range(0, len(items), size)
    return [json.dumps([item.packed() for item in items[k : k + size]]) for k in starts]
