"""Labelling many pictures with Ray, compared with one process without it; how names are listed.

    python -m benchmarks.labelling            → "labelling" in benchmarks/scale.json
    python -m benchmarks.labelling --pictures 60 --rounds 1 --names 100000 --out quick.json

All take turns, round by round, over the same folder of JPEG files of 480 × 360 with one face each,
and write the same parquet files. Each is timed on `--pictures` files and on three times as many;
what the further ones take tells the rate once workers run, the rest what a run costs before that
(networks are loaded, Ray starts its processes; starting Ray itself is told apart). Ratios are
within each round, to one process and one thread without Ray.

*Names*: so many made-up names go through what a run does before it opens anything, in a process of
its own: seconds, and by how much its memory grows.

Figures only mean something on a machine that is idle otherwise.
"""

import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
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
HEADS = ("", "Pictures/s, once it runs", "Of one process", "Before that, s", "Answers missing")
TIMES = 3  # how many times as many files the longer run has


def write_files(folder: Path, count: int) -> list[Path]:
    """So many pictures, of which some dozens differ; the first third in a folder of its own."""
    drawn, paths = drawn_pictures(), []
    for k in range(count * TIMES):
        path = folder / ("first" if k < count else "rest") / f"{k:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn[k % len(drawn)])
        paths.append(path)
    return paths


def ways(workers: Sequence[int]) -> dict[str, Engine | None]:
    """{name: the engine}; None for the command without `label`."""
    several = {f"Ray, {n} worker{'' if n == 1 else 's'}": on_ray(n) for n in workers}
    return {ONE: in_this_process, **several, "threads on all cores, without Ray": None}


def seconds_of(engine: Engine | None, folder: Path, paths: Sequence[Path]) -> tuple[float, int]:
    """(seconds to answer them all, how many answers are missing)."""
    started_at = time.perf_counter()
    if engine is None:
        names = [str(path) for path in paths]
        done = sum(not found.error for found in answer_pictures(ExpressionPredictor(), names))
    else:
        given = sorted({str(path.parent) for path in paths})
        with tempfile.TemporaryDirectory(dir=folder) as out:
            done = label(Source(given), out, Settings(), engine, Pace()).pictures
    return time.perf_counter() - started_at, len(paths) - done


def measure(count: int, rounds: int, workers: Sequence[int]) -> dict[str, Any]:
    """The rows of all ways, and how long Ray takes to start, in seconds."""
    with tempfile.TemporaryDirectory(prefix="labelling-") as temporary:
        folder = Path(temporary)
        paths = write_files(folder / "photos", count)
        before = time.perf_counter()
        with started(max(workers), None):
            start = time.perf_counter() - before
            rows = measured(ways(workers), folder, paths, count, rounds)
    return {"ray_start_seconds": start, "rows": rows}


def measured(
    engines: dict[str, Engine | None], folder: Path, paths: Sequence[Path], count: int, rounds: int
) -> list[dict[str, Any]]:
    missing = dict.fromkeys(engines, 0)
    rates: dict[str, list[float]] = {name: [] for name in engines}
    starts: dict[str, list[float]] = {name: [] for name in engines}

    def turn(name: str) -> float:
        short, lost = seconds_of(engines[name], folder, paths[:count])
        long, more = seconds_of(engines[name], folder, paths)
        missing[name] += lost + more
        rate = (len(paths) - count) / max(long - short, 1e-9)
        rates[name].append(rate)
        starts[name].append(short - count / rate)
        return rate

    calls: dict[str, Callable[[], float]] = {name: partial(turn, name) for name in engines}
    harness.paired_rounds(calls, rounds, warm_up=0)
    return [
        {
            "name": name,
            "pictures_per_second": rates[name],
            "ratios": harness.ratios(rates[name], rates[ONE]),
            "seconds_before": starts[name],
            "missing": missing[name],
        }
        for name in engines
    ]


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
            f"{median(row['seconds_before']):.1f}",
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
    add("--pictures", type=harness.positive, default=400, help="of the shorter run (default: 400)")
    add("--workers", type=harness.positive, nargs="+", default=[1, 2], help="default: 1 2")
    add("--names", type=harness.positive, default=10_000_000, help="default: ten million")
    add("--child", help="internal: list names in this process")
    args = harness.parse(made, arguments)
    if args.child:
        return harness.reply_to_parent(listed(int(args.child)))
    check_installed()
    about = harness.record(
        "labelling", arguments, args.device, PACKAGES,
        pictures=args.pictures, rounds=args.rounds, times=TIMES,
    )  # fmt: skip
    (names,) = harness.child_rows("labelling", args.names)
    told = {**about, "listing": names, **measure(args.pictures, args.rounds, args.workers)}
    harness.write_json(args.out, {**(harness.read_json(args.out) or {}), "labelling": told})
    print(table(told))
    return 1 if any(row["missing"] for row in told["rows"]) else 0


if __name__ == "__main__":
    raise SystemExit(main())
