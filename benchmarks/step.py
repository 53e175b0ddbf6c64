"""What a training step gains by memory format, fused optimizers, bfloat16, compiling, batch size.

    python benchmarks/step.py                    → benchmarks/step.json
    python benchmarks/step.py --only "ResNet9, 48 px" --skip compile

Forward, loss, backward and optimizer on a batch already in place, each way beside the plain one
and in turns with it, because machines speed up and slow down. Compiling is timed apart, and told
in epochs of FER2013 (28,709 pictures) after which it has paid for itself. What `train_loop` and the
laboratory do by default follows from this table. Run it on an idle machine.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, from any folder

import torch

from benchmarks.loop import CASES, Case, bare_step
from benchmarks.machine import surroundings, wait
from lab import models

__all__ = ["lesson", "table"]

OUT = Path(__file__).resolve().parent / "step.json"
EPOCH = 28_709  # pictures


@dataclass(frozen=True)
class Way:
    """How a step is taken; the plain way is all defaults."""

    name: str
    channels_last: bool = False
    fused: bool = False
    bfloat16: bool = False
    compiled: bool = False
    batch: float = 1.0  # times the case's own


WAYS = (
    Way("plain"),
    Way("channels_last", channels_last=True),
    Way("channels_last, fused optimizer", channels_last=True, fused=True),
    Way("channels_last, bfloat16", channels_last=True, bfloat16=True),
    Way("channels_last, half the batch", channels_last=True, batch=0.5),
    Way("channels_last, double batch", channels_last=True, batch=2),
    Way("channels_last, four times the batch", channels_last=True, batch=4),
    Way("channels_last, compile", channels_last=True, compiled=True),
)


def make_step(case: Case, way: Way, device: torch.device) -> tuple[Callable[[], None], int]:
    """(a training step, its pictures). The first call of a compiled one compiles."""
    torch.manual_seed(0)
    count = max(int(case.batch_size * way.batch), 1)
    form = torch.channels_last if way.channels_last else torch.contiguous_format
    model = models.build(case.system, num_classes=7, in_channels=case.channels, **case.args)
    model = model.to(device, memory_format=form)
    images = torch.rand(count, case.channels, case.size, case.size, device=device)
    images = images.contiguous(memory_format=form)
    labels = torch.randint(0, 7, (count,), device=device)
    optimizer = torch.optim.SGD(
        model.parameters(), 0.01, momentum=0.9, nesterov=True, fused=way.fused or None
    )
    network = torch.compile(model) if way.compiled else model
    precision = torch.bfloat16 if way.bfloat16 else torch.float32

    return bare_step(network, optimizer, (images, labels), precision), count


def timed(step: Callable[[], None], device: torch.device, seconds: float) -> float:
    """Seconds for one call, over as many calls as fill `seconds`."""
    wait(device)
    start, calls = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds or not calls:
        step()
        wait(device)
        calls += 1
    return passed / calls


def measure(case: Case, device: torch.device, runs: int, seconds: float, skip: str) -> dict:
    """Every way of a case: pictures a second in each turn, and what its first call took."""
    ways = []
    for way in WAYS:
        if skip and skip in way.name:
            continue
        step, count = make_step(case, way, device)
        start = time.perf_counter()
        step()
        wait(device)
        ways.append({"way": way.name, "pictures": count, "first": time.perf_counter() - start,
                     "rates": [], "step": step})  # fmt: skip
    for _ in range(runs):
        for row in ways:
            row["rates"].append(row["pictures"] / timed(row["step"], device, seconds))
    for row in ways:
        del row["step"]
    return {"case": case.name, "ways": ways}


def repaid(row: dict[str, Any], plain: float) -> str:
    """Epochs after which the seconds of compiling are won back; `plain` in pictures/s."""
    won = EPOCH / plain - EPOCH / median(row["rates"])
    return f"{row['first'] / won:.1f} epochs" if won > 0 else "never"


def table(cases: list[dict[str, Any]]) -> str:
    lines = ["| Network | Way | Batch | Pictures/s (turns) | Against plain | First call (s) | "
             "Compiling repaid after |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for case in cases:
        rates = {row["way"]: row["rates"] for row in case["ways"]}
        for row in case["ways"]:
            gains = [a / b for a, b in zip(row["rates"], rates["plain"], strict=True)]
            eager = median(rates.get("channels_last", rates["plain"]))
            lines.append(
                f"| {case['case']} | {row['way']} | {row['pictures']} | "
                f"{median(row['rates']):,.0f} ({min(row['rates']):,.0f}–{max(row['rates']):,.0f}) "
                f"| {median(gains):.2f} × | {row['first']:.1f} | "
                f"{repaid(row, eager) if 'compile' in row['way'] else '–'} |"
            )
    return "\n".join(lines)


def lesson(cases: list[dict[str, Any]]) -> str:
    """What the defaults are, with the figures that they follow from."""
    gains: dict[str, list[str]] = {}
    for case in cases:
        rates = {row["way"]: row["rates"] for row in case["ways"]}
        for way, values in rates.items():
            against = "plain" if way == "channels_last" else "channels_last"
            pairs = zip(values, rates[against], strict=True)
            gains.setdefault(way, []).append(f"{median(a / b for a, b in pairs):.2f}")
    told = {way: ", ".join(values) + " ×" for way, values in gains.items()}
    names = ", ".join(case["case"] for case in cases)
    lines = [
        f"The defaults follow, in this order: {names}. channels_last against plain: "
        f"{told['channels_last']}; it is what the laboratory trains and serves in.",
    ]
    for way, word in (
        ("channels_last, fused optimizer", "A fused optimizer on top of it"),
        ("channels_last, bfloat16", "bfloat16 on top of it, on this processor"),
        ("channels_last, compile", "Compiling on top of it"),
    ):
        if way in told:
            lines.append(f"{word}: {told[way]}.")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="NETWORK", choices=[case.name for case in CASES])
    parser.add_argument("--skip", default="", help="leave out ways with this word, e.g. compile")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one turn of one way")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(arguments)
    device = torch.device(args.device)
    told: dict[str, Any] = {**surroundings(device), "cases": []}
    for case in CASES:
        if args.only in (None, case.name):
            told["cases"].append(measure(case, device, args.runs, args.seconds, args.skip))
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
            print(table(told["cases"][-1:]), flush=True)


if __name__ == "__main__":
    main()
