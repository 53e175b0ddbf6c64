"""Whether training keeps its speed and its memory as the data set grows.

    python -m benchmarks.growth --data path/to/fer2013            → benchmarks/growth.json

FER2013's training pictures are repeated to 3.6, 28.7 and 359 thousand. TinyVGG makes equally many
steps on each size, over rows spread through the whole set. Each size has a process of its own, so
that its peak memory is its own; the processes train in turns. Run it on an idle machine.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from benchmarks import harness
from benchmarks.loop import CASES, make_network
from benchmarks.peak_memory import PeakMemory
from benchmarks.subjects import Augment, Batches, decode, load, train_step

__all__ = ["grow", "in_turns", "table"]

FACTORS = (0.125, 1.0, 12.5)  # times FER2013's training split
HEADS = ("Pictures", "Decoded file", "Decoding, once (pictures/s)", "Training (pictures/s)",
         "Peak memory without mapped files")  # fmt: skip


def grow(data: str, factor: float, device: torch.device, steps: int) -> Iterator[dict[str, Any]]:
    """Decode the training split `factor` times, then train a turn for each `next`.

    Yields what is known so far; the first row comes after a turn that warms up.
    """
    from datasets import concatenate_datasets

    rows = load(data, say=lambda _: None)["train"].select_columns(["image", "label"])
    count = round(len(rows) * factor)
    rows = concatenate_datasets([rows] * math.ceil(factor)).select(range(count))
    model, optimizer = make_network(CASES[0], device)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    order = order[: steps * CASES[0].batch_size]
    peak = PeakMemory()
    peak.start()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        decoded = decode(rows, CASES[0].preprocess(), folder)
        decoding = time.perf_counter() - start
        loader = Batches(
            decoded, CASES[0].batch_size, augment=Augment(), device=device, indices=order
        )

        def turn() -> None:
            train_step(model, loader, nn.CrossEntropyLoss(), optimizer, device)

        turn()
        rates: list[float] = []
        try:
            while True:
                yield {"pictures": count, "file_megabytes": decoded.pixels.nbytes / 2**20,
                       "decoded_per_second": count / decoding, "rates": list(rates),
                       "peak_megabytes": peak.own / 2**20}  # fmt: skip
                rates.append(len(order) / harness.seconds_of(turn, device))
        finally:
            peak.stop.set()


def in_turns(sizes: Sequence[Iterator[dict[str, Any]]], rounds: int) -> list[dict[str, Any]]:
    """The last row of each size after `rounds` turns; all are ready before the first turn."""
    rows = [next(size) for size in sizes]
    for _ in range(rounds):
        rows = [next(size) for size in sizes]
    return rows


def table(told: dict[str, Any]) -> str:
    return harness.markdown_table(HEADS, (
        (f"{row['pictures']:,}", f"{row['file_megabytes']:,.0f} MB",
         f"{row['decoded_per_second']:,.0f}", harness.rates_cell(row["rates"]),
         f"{row['peak_megabytes']:,.0f} MB")
        for row in told["rows"]
    ))  # fmt: skip


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.parser("growth", __doc__, "FER2013: folder or CSV", 5)
    parser.add_argument("--steps", type=harness.positive, default=60, help="of one turn")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = harness.parse(parser, arguments)
    if args.child:
        return harness.reply_to_parent(
            grow(args.data, float(json.loads(args.child)), args.device, args.steps)
        )
    about = harness.record("growth", arguments, args.device, rounds=args.rounds, steps=args.steps)
    options = ["--data", args.data, "--device", str(args.device), "--steps", str(args.steps)]
    options += ["--threads", str(torch.get_num_threads())]
    sizes = [harness.child_rows("growth", factor, *options) for factor in FACTORS]
    return harness.measure_rows(args.out, about, in_turns(sizes, args.rounds), table)


if __name__ == "__main__":
    sys.exit(main())
