"""What a training step gains by memory format, fused optimizer, bfloat16, compiling, batch size.

    python -m benchmarks.step                                 → benchmarks/step.json
    python -m benchmarks.step --only "ResNet9, 48 px" --skip compile

A step is forward, loss, backward and optimizer on a batch that is already on the device. All ways
take turns. The first call of each is timed apart: for a compiled network it holds the compiling,
told in epochs of FER2013 (28,709 pictures) after which it has paid for itself. The defaults of the
training loop and the recipes follow from this table. Run it on an idle machine.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch

from benchmarks import harness
from benchmarks.loop import CASES, Case, bare_step, make_network

__all__ = ["WAYS", "compare", "epochs_to_repay", "table"]

EPOCH = 28_709  # pictures
HEADS = ("Network", "Way", "Batch", "Pictures/s (range)", "/ plain", "/ channels_last",
         "First call (s)", "Compiling repaid after")  # fmt: skip


@dataclass(frozen=True)
class Way:
    """How a step is made; the plain way is all defaults."""

    name: str
    channels_last: bool = True
    fused: bool = False
    bfloat16: bool = False
    compiled: bool = False
    batch: float = 1.0  # times the case's own


PLAIN, LAST = "plain", "channels_last"
WAYS = (
    Way(PLAIN, channels_last=False),
    Way(LAST),
    Way(f"{LAST}, fused optimizer", fused=True),
    Way(f"{LAST}, bfloat16", bfloat16=True),
    Way(f"{LAST}, half the batch", batch=0.5),
    Way(f"{LAST}, double batch", batch=2),
    Way(f"{LAST}, four times the batch", batch=4),
    Way(f"{LAST}, compile", compiled=True),
)


def make_step(case: Case, way: Way, device: torch.device) -> tuple[Callable[[], None], int]:
    """(a training step, its number of pictures). The first call of a compiled one compiles."""
    count = max(int(case.batch_size * way.batch), 1)
    memory = torch.channels_last if way.channels_last else torch.contiguous_format
    model, optimizer = make_network(case, device, memory, way.fused or None)
    images = torch.rand(count, case.channels, case.size, case.size, device=device)
    labels = torch.randint(0, 7, (count,), device=device)
    network = torch.compile(model) if way.compiled else model
    precision = torch.bfloat16 if way.bfloat16 else torch.float32
    batch = (images.contiguous(memory_format=memory), labels)
    return bare_step(network, optimizer, batch, precision), count


def compare(
    case: Case, device: torch.device, rounds: int, seconds: float, skip: str = ""
) -> list[dict[str, Any]]:
    """A row for each way of a case: pictures a second in each round, and its first call."""
    rows, steps = [], {}
    for way in WAYS:
        if skip and skip in way.name:
            continue
        step, count = make_step(case, way, device)
        rows.append({"network": case.name, "way": way.name, "batch_size": count,
                     "first_call": harness.seconds_of(step, device)})  # fmt: skip
        steps[way.name] = partial(step)
    for row, times in zip(rows, harness.time_calls(steps, device, rounds, seconds).values(),
                          strict=True):  # fmt: skip
        row["rates"] = [row["batch_size"] / t for t in times]
    return rows


def epochs_to_repay(row: dict[str, Any], eager: float) -> str:
    """Epochs after which compiling has been won back; `eager` is the speed without, pictures/s."""
    won = EPOCH / eager - EPOCH / median(row["rates"])
    return f"{row['first_call'] / won:.1f} epochs" if won > 0 else "never"


def table(told: dict[str, Any]) -> str:
    rates = {(row["network"], row["way"]): row["rates"] for row in told["rows"]}

    def cells(row: dict[str, Any]) -> Iterator[str]:
        yield from (row["network"], row["way"], str(row["batch_size"]))
        yield harness.rates_cell(row["rates"])
        for way in (PLAIN, LAST):
            base = rates.get((row["network"], way))
            yield f"{median(harness.ratios(row['rates'], base)):.2f} ×" if base else "–"
        yield f"{row['first_call']:.1f}"
        eager = rates.get((row["network"], LAST))
        compiled = "compile" in row["way"] and eager
        yield epochs_to_repay(row, median(eager)) if compiled else "–"

    return harness.markdown_table(HEADS, (list(cells(row)) for row in told["rows"]))


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.parser("step", __doc__, rounds=3, seconds=2.0)
    parser.add_argument("--only", metavar="NETWORK", choices=[case.name for case in CASES])
    parser.add_argument("--skip", default="", help="leave out ways with this word, e.g. compile")
    args = harness.parse(parser, arguments)
    chosen = [case for case in CASES if args.only in (None, case.name)]
    rows = (
        row for case in chosen
        for row in compare(case, args.device, args.rounds, args.seconds, args.skip)
    )  # fmt: skip
    about = harness.record("step", arguments, args.device, rounds=args.rounds, seconds=args.seconds)
    return harness.measure_rows(args.out, about, rows, table)


if __name__ == "__main__":
    sys.exit(main())
