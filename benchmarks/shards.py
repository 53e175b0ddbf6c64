"""Whether memory stays flat as a data set grows, and how fast its pictures come.

    python -m benchmarks.shards                    → the key "shards" of benchmarks/scale.json

Drawn pictures of 48 × 48 in Parquet files: as many training pictures as FER2013 has, and ten times
as many; validation and test stay as they are. *Whole*
reads the files into memory and keeps the decoded pictures in one mapped file, as `--data` does;
*stream* decodes them anew in each epoch (`--streaming`); *shards* are mapped files that were
written from the stream (`pack --shards`). Each has a process of its own, which makes the batches of
an epoch for each turn, shuffled, without a network. Memory is the most that the process held from
its start on: its own, and that of mapped files, which the system takes back when it is needed.
"""

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import harness
from benchmarks.peak_memory import PeakMemory
from lab.data import Faces, preprocess, read
from lab.recipe import Recipe

__all__ = ["WAYS", "draw_set", "epochs", "table"]

FER2013, HELD = 28_709, 3_589  # its training pictures; those of validation, and of test
FACTORS = (1, 10)
WAYS = {"whole": "read whole, decoded once", "stream": "streamed Parquet",
        "shards": "decoded once, in shards"}  # fmt: skip
HEADS = ("Training pictures", "Way", "Before the first epoch (s)", "Pictures/s (range)",
         "Own memory", "Mapped files in memory")  # fmt: skip
FILE_ROWS = 9_000  # of a Parquet file
CLASSES = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
RECIPE = Recipe("tinyvgg", size=48, batch_size=128, augment=None)


def draw_set(folder: Path, pictures: int) -> Path:
    """Parquet files of so many training pictures: smooth noise as PNG, about 1.4 kB each."""
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature

    random = np.random.default_rng(pictures)
    features = Features(image=ImageFeature(), label=ClassLabel(names=list(CLASSES)))

    def drawn() -> dict[str, Any]:
        file, small = io.BytesIO(), random.integers(0, 256, (6, 6), dtype=np.uint8)
        Image.fromarray(small).resize((48, 48), Image.Resampling.BICUBIC).save(file, "PNG")
        return {"bytes": file.getvalue(), "path": None}

    folder.mkdir(parents=True)
    for split, count in (("train", pictures), ("validation", HELD), ("test", HELD)):
        files = -(-count // FILE_ROWS)
        for file in range(files):
            rows = count * (file + 1) // files - count * file // files
            labels = random.integers(0, len(CLASSES), rows).tolist()
            columns = {"image": [drawn() for _ in range(rows)], "label": labels}
            part = Dataset.from_dict(columns, features=features)
            part.to_parquet(folder / f"{split}-{file:05d}-of-{files:05d}.parquet", batch_size=1000)
    return folder


def opened(way: str, where: Path, shards: Path) -> Faces:
    """The data set, read in one of the `WAYS`."""
    if way == "whole":
        return read(str(where))
    from lab.shard_writer import write_shards
    from lab.shards import read_shards
    from lab.streaming import read_streamed

    if way == "shards":
        write_shards(read_streamed(str(where)), shards, preprocess(RECIPE))
        return read_shards(shards)
    return read_streamed(str(where))


def epochs(task: dict[str, Any], device: torch.device) -> Iterator[dict[str, Any]]:
    """The child's side: what is known after opening the set, then after each epoch."""
    peak, rates = PeakMemory(), []
    peak.start()
    start = time.perf_counter()
    os.chdir(task["home"])  # for .expression_cache
    with contextlib.redirect_stdout(sys.stderr):
        faces = opened(task["way"], Path(task["data"]), Path(task["home"]) / "shards")
    loader = faces.batches(RECIPE, 0, device)["train"]
    before = time.perf_counter() - start
    try:
        while True:
            yield {"way": task["way"], "pictures": task["pictures"], "seconds_before": before,
                   "rates": list(rates), "own_megabytes": peak.own / 1e6,
                   "mapped_megabytes": peak.mapped / 1e6}  # fmt: skip
            count, start = 0, time.perf_counter()
            for images, _ in loader:
                count += len(images)
            harness.synchronize(device)
            if count != len(loader.rows):
                raise ValueError(f"{task['way']}: {count} pictures instead of {len(loader.rows)}")
            rates.append(count / (time.perf_counter() - start))
    finally:
        peak.stop.set()


def measure(pictures: int, rounds: int, options: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each way, at one size; their epochs take turns."""
    with tempfile.TemporaryDirectory() as folder:
        where, children = draw_set(Path(folder) / "drawn", pictures), {}
        for way in WAYS:
            home = Path(folder) / way
            home.mkdir()
            task = {"way": way, "data": str(where), "home": str(home), "pictures": pictures}
            children[way] = harness.child_rows("shards", task, *options)
        rows: dict[str, Any] = {}

        def turn(way: str) -> float:
            rows[way] = next(children[way])
            return 0.0

        for way in WAYS:
            turn(way)
        harness.paired_rounds({way: partial(turn, way) for way in WAYS}, rounds, warm_up=0)
        for child in children.values():
            child.close()  # type: ignore[attr-defined]
        return list(rows.values())


def table(told: dict[str, Any]) -> str:
    return harness.markdown_table(HEADS, (
        (f"{row['pictures']:,}", WAYS[row["way"]], f"{row['seconds_before']:,.0f}",
         harness.rates_cell(row["rates"]), f"{row['own_megabytes']:,.0f} MB",
         f"{row['mapped_megabytes']:,.0f} MB")
        for row in told["rows"]
    ))  # fmt: skip


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.parser("shards", __doc__, rounds=3)
    parser.set_defaults(out=harness.HERE / "scale.json")
    parser.add_argument("--pictures", type=harness.positive, default=FER2013, metavar="N",
                        help="of training in the smaller set; the larger has ten times as many "
                        f"(default: {FER2013})")  # fmt: skip
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = harness.parse(parser, arguments)
    if args.child:
        return harness.reply_to_parent(epochs(json.loads(args.child), args.device))
    told = harness.record("shards", arguments, args.device, ("datasets", "pyarrow", "numpy"),
                          pictures=args.pictures, rounds=args.rounds)  # fmt: skip
    options = ["--device", str(args.device), "--threads", str(torch.get_num_threads())]
    told["rows"] = [row for factor in FACTORS
                    for row in measure(args.pictures * factor, args.rounds, options)]  # fmt: skip
    harness.write_key(args.out, "shards", told)
    print(table(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
