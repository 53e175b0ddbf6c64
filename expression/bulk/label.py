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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from expression.bulk.keys import SeenKeys, key_of
from expression.bulk.results import Results
from expression.bulk.rows import SCHEMA_VERSION, empty_row, schema_of, table_of
from expression.bulk.sources import Item, Source
from expression.bulk.stores import absolute
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
    import warnings

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
    yield from tables.iter_batches(batch_size=None, batch_format="pyarrow")


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
        items = (item for item in source.items() if not is_film(item))
        for wave in fresh_waves(items, seen, pace.wave * workers):
            job.run(wave)
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
            row = empty_row(item.name, self.class_names, self.settings.model_sha256, KILLED)
            self.take(table_of([row], self.class_names), waiting, {key})

    def answer(self, waiting: dict[bytes, Item], size: int) -> None:
        """Have items answered in chunks; those that were leave `waiting`."""
        for table in self.engine(self.settings, chunks_of(list(waiting.values()), size)):
            if "failure" in table.column_names:
                raise WorkFailure(table["failure"][0].as_py())
            keys = set(pc.unique(table["key"]).to_pylist())
            if extra := keys - waiting.keys():  # answered a second time
                table = table.filter(pc.invert(pc.is_in(table["key"], binary(extra))))
            self.take(table, waiting, keys - extra)

    def take(self, table: pa.Table, waiting: dict[bytes, Item], keys: set[bytes]) -> None:
        for key in keys:
            del waiting[key]
        if keys:
            self.writer.add(table, keys)
            if self.progress is not None:
                self.progress(len(keys))


def binary(keys: Iterable[bytes]) -> pa.Array:
    return pa.array(list(keys), pa.binary(16))


def chunks_of(items: Sequence[Item], size: int) -> list[str]:
    """JSON of some items each."""
    starts = range(0, len(items), size)
    return [json.dumps([item.packed() for item in items[k : k + size]]) for k in starts]
