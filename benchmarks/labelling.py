"""Labelling many pictures with Ray, compared with one process without it; how names are listed.

    python -m benchmarks.labelling            → "labelling" in benchmarks/scale.json
    python -m benchmarks.labelling --pictures 60 --rounds 1 --names 100000 --out quick.json

All take turns, round by round, over the same folder of JPEG files of 480 × 360 with one face each,
and write the same parquet files. The rate is that of the last nine tenths of the pictures, once all
workers run; told apart are the seconds until the first tenth is answered (networks are loaded, Ray
starts its workers) and those that Ray itself takes to start. Ratios are within each round, to one
process and one thread without Ray.

*Names*: so many made-up names go through what a run does before it opens anything, in a process of
its own: seconds, and by how much its memory grows.

Figures only mean something on a machine that is idle otherwise.
"""

import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from benchmarks import harness
from benchmarks.server import drawn_pictures
from expression.bulk import sources
from expression.bulk.cluster import check_installed, started
from expression.bulk.keys import SeenKeys
from expression.bulk.label import Engine, Pace, fresh_waves, in_this_process, label, on_ray
from expression.bulk.sources import Source
from expression.bulk.worker import Settings
from expression.picture_batches import answer_pictures
from expression.predictor import ExpressionPredictor

__all__ = ["listed", "measure", "table", "write_files"]

PACKAGES = ("ray", "pyarrow", "onnxruntime", "numpy", "pillow")
ONE = "one process, one thread, without Ray"
HEADS = ("", "Pictures/s, once it runs", "Of one process", "First tenth, s", "Answers missing")
CHUNK = 16  # pictures that a worker takes at once: 64 by default, for runs that are longer


def write_files(folder: Path, count: int) -> list[str]:
    """So many pictures, of which some dozens differ."""
    drawn, names = drawn_pictures(), []
    for k in range(count):
        path = folder / f"{k % 10}" / f"{k:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn[k % len(drawn)])
        names.append(str(path))
    return names


def ways(workers: Sequence[int]) -> dict[str, Engine | None]:
    """{name: the engine}; None for the command without `label`."""
    several = {f"Ray, {n} worker{'' if n == 1 else 's'}": on_ray(n) for n in workers}
    return {ONE: in_this_process, **several, "threads on all cores, without Ray": None}


@dataclass(frozen=True)
class Run:
    """Pictures a second after the first tenth, the seconds until then, answers that lack, and what
    a picture's rows take in the files that are written (0: none are)."""

    rate: float
    first: float
    missing: int
    written: float = 0.0


def run(engine: Engine | None, folder: Path, names: Sequence[str]) -> Run:
    began, times, written = time.perf_counter(), list[float](), 0

    def tick(count: int) -> None:
        times.extend([time.perf_counter() - began] * count)

    if engine is None:
        for found in answer_pictures(ExpressionPredictor(), names):
            tick(not found.error)
    else:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            source, pace = Source([str(folder / "photos")]), Pace(chunk=CHUNK)
            label(source, out, Settings(), engine, pace, progress=tick)
            written = sum(part.stat().st_size for part in Path(out).rglob("*.parquet"))
    first = times[len(names) // 10]
    later = [at for at in times if at > first]
    rate = len(later) / (times[-1] - first)
    return Run(rate, first, len(names) - len(times), written / len(names))


def measure(count: int, rounds: int, workers: Sequence[int]) -> dict[str, Any]:
    """The rows of all ways, and how long Ray takes to start, in seconds."""
    with tempfile.TemporaryDirectory(prefix="labelling-") as temporary:
        folder = Path(temporary)
        names = write_files(folder / "photos", count)
        before = time.perf_counter()
        with started(max(workers), None):
            start = time.perf_counter() - before
            runs: dict[str, list[Run]] = {name: [] for name in ways(workers)}
            calls = {
                name: partial(timed, partial(run, engine, folder, names), runs[name])
                for name, engine in ways(workers).items()
            }
            rates = harness.paired_rounds(calls, rounds, warm_up=0)
    rows = [
        {
            "name": name,
            "pictures_per_second": rates[name],
            "ratios": harness.ratios(rates[name], rates[ONE]),
            "first_tenth_seconds": [one.first for one in found],
            "missing": sum(one.missing for one in found),
            "bytes_written": found[0].written,
        }
        for name, found in runs.items()
    ]
    return {"ray_start_seconds": start, "rows": rows}


def timed(call: Callable[[], Run], runs: list[Run]) -> float:
    runs.append(call())
    return runs[-1].rate


def listed(count: int) -> Iterator[dict[str, Any]]:
    """In a process of its own: what the names of so many pictures take before one is opened."""
    names = ((f"/photos/{k // 1000:06}/{k:09}.jpg", None) for k in range(count))
    seen, before, found = SeenKeys(), peak_megabytes(), 0
    with (
        mock.patch.object(sources, "files_below", lambda _: names),
        tempfile.TemporaryDirectory() as folder,
    ):
        began = time.perf_counter()
        for wave in fresh_waves(Source([folder]).items(), seen, Pace().wave):
            found += len(wave)
        seconds = time.perf_counter() - began
    yield {"names": found, "seconds": seconds, "megabytes": peak_megabytes() - before}


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(told: dict[str, Any]) -> str:
    rows = [
        (
            row["name"],
            harness.rates_cell(row["pictures_per_second"]),
            harness.rates_cell(row["ratios"], 2),
            f"{median(row['first_tenth_seconds']):.1f}",
            f"{row['missing']:,}",
        )
        for row in told["rows"]
    ]
    return harness.markdown_table(HEADS, rows)


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    made = harness.parser("labelling", __doc__, rounds=3)
    made.set_defaults(out=harness.HERE / "scale.json")
    add = made.add_argument
    add("--pictures", type=harness.positive, default=1000, help="default: 1000")
    add("--workers", type=harness.positive, nargs="+", default=[1, 2], help="default: 1 2")
    add("--names", type=harness.positive, default=10_000_000, help="default: ten million")
    add("--child", help="internal: list names in this process")
    args = harness.parse(made, arguments)
    if args.child:
        return harness.reply_to_parent(listed(int(args.child)))
    check_installed()
    about = harness.record(
        "labelling", arguments, args.device, PACKAGES,
        pictures=args.pictures, rounds=args.rounds, chunk=CHUNK,
    )  # fmt: skip
    (names,) = harness.child_rows("labelling", args.names)
    told = {**about, "listing": names, **measure(args.pictures, args.rounds, args.workers)}
    harness.write_key(args.out, "labelling", told)
    print(table(told))
    return 1 if any(row["missing"] for row in told["rows"]) else 0


if __name__ == "__main__":
    raise SystemExit(main())
