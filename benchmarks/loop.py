"""How close the training loop comes to the bare step, and whether it stays so as data grow.

    python benchmarks/loop.py --data path/to/fer2013              → benchmarks/loop.json
    python benchmarks/loop.py --data path/to/fer2013 --growth     the set repeated, 3.6 k to 359 k

The limit is the step on a batch already in place: forward, loss, backward, optimizer, nothing
else. Beside it one epoch as everybody runs it: `hf_collate.Batches` with augmentation, `train_step`
with its checks and metrics. Both take turns on the same network, so that a machine that slows down
slows both; the share is the median of the turns' shares. Run it on an idle machine.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, from any folder

import torch
from torch import Tensor, nn

from benchmarks.machine import surroundings, wait
from expression.preprocessing import Preprocess
from hf_collate import Augment, Batches, Decoded, decode
from lab import models
from lab.data import read
from lab.training import fast_precision
from train_loop import autocast, train_step

__all__ = ["growth_table", "loop_table"]

OUT = Path(__file__).resolve().parent / "loop.json"


@dataclass(frozen=True)
class Case:
    """A network and the pictures it is trained on."""

    name: str
    system: str
    size: int
    channels: int
    batch_size: int
    args: dict[str, Any]

    def preprocess(self) -> Preprocess:
        return Preprocess(self.size, "L", self.channels)


CASES = (
    Case("TinyVGG, 64 px", "tinyvgg", 64, 3, 64, {"hidden_channels": 16}),
    Case("gray ResNet18, 48 px", "gray_resnet", 48, 1, 64, {"stem": "stock"}),
    Case("ResNet18, 112 px", "resnet18", 112, 3, 64, {}),
    Case("ResNet9, 48 px", "resnet9", 48, 1, 128, {}),
)


def bare_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor], precision: Any
) -> Callable[[], None]:
    """The limit: everything a step must do, and nothing that a loop adds."""
    images, labels = batch
    loss_fn = nn.CrossEntropyLoss()
    model.train()

    def step() -> None:
        with autocast(images.device, precision):
            logits = model(images)
        loss = loss_fn(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def fresh(case: Case, device: torch.device) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A case's network from seed 0, in channels_last, and its optimizer."""
    torch.manual_seed(0)
    model = models.build(case.system, num_classes=7, in_channels=case.channels, **case.args)
    model = model.to(device, memory_format=torch.channels_last)
    return model, torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True)


def compare(case: Case, data: Decoded, device: torch.device, turns: int, seconds: float) -> dict:
    """Pictures a second of the bare step and of the loop, in turns; the loop's share of it.

    A turn is as many steps as fill `seconds`, first of the one, then of the other, and the other
    way round in the next turn.
    """
    model, optimizer = fresh(case, device)
    precision, loss_fn = fast_precision(device), nn.CrossEntropyLoss()
    settings = {"shuffle": True, "augment": Augment(), "device": device}
    batch = next(iter(Batches(data, case.batch_size, **settings)))
    step = bare_step(model, optimizer, batch, precision)
    count = steps_for(step, device, seconds) * case.batch_size
    loader = Batches(data, case.batch_size, indices=range(min(count, len(data))), **settings)

    def bare() -> None:
        for _ in range(len(loader)):
            step()

    def loop() -> None:
        train_step(model, loader, loss_fn, optimizer, device, precision=precision)

    pictures = len(loader) * case.batch_size
    found = []
    for turn in range(turns + 1):
        both = {"bare": bare, "loop": loop}
        rates = {}
        for name in sorted(both, reverse=bool(turn % 2)):
            wait(device)
            start = time.perf_counter()
            both[name]()
            wait(device)
            rates[name] = pictures / (time.perf_counter() - start)
        if turn:  # the first warms up
            found.append({**rates, "share": rates["loop"] / rates["bare"]})
    return {"case": case.name, "batch_size": case.batch_size, "pictures": pictures,
            "precision": str(precision), "turns": found}  # fmt: skip


def steps_for(step: Callable[[], None], device: torch.device, seconds: float) -> int:
    """How many steps fill `seconds`, at least two; the first one warms up."""
    step()
    wait(device)
    start = time.perf_counter()
    step()
    wait(device)
    return max(2, round(seconds / (time.perf_counter() - start)))


# --- growth ---

GROWTH = (0.125, 1.0, 12.5)  # times FER2013's training split: 3.6 k, 28.7 k, 359 k pictures
GROWTH_TURNS = 5


class Peak(threading.Thread):
    """The most memory of its own that this process holds, sampled; mapped files do not count.

    The kernel gives back pages of a mapped file whenever somebody needs them, so they are no
    demand; Linux tells the two apart (RssAnon).
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes, self.over = 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.02):
            lines = Path("/proc/self/status").read_text().splitlines()
            now = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            self.bytes = max(self.bytes, now * 1024)


def grow(where: str, times: float, device: torch.device, steps: int) -> Iterator[dict[str, Any]]:
    """Decode the training split `times` over, then train on parts of it, a turn for each `next`.

    As many steps at each size, over rows spread through the whole file. Yields what is known so
    far: rates, peak memory; the first time after a turn that warms up and does not count.
    """
    from datasets import concatenate_datasets

    from lab import datasets

    case = CASES[0]
    rows = datasets.load(where, say=lambda _: None)["train"].select_columns(["image", "label"])
    count = round(len(rows) * times)
    rows = concatenate_datasets([rows] * math.ceil(times)).select(range(count))
    model, optimizer = fresh(case, device)
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    chosen = chosen[: steps * case.batch_size]
    peak = Peak()
    peak.start()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        data = decode(rows, case.preprocess(), folder)
        decoding = time.perf_counter() - start
        loader = Batches(data, case.batch_size, augment=Augment(), device=device, indices=chosen)
        rates: list[float] = []
        train_step(model, loader, nn.CrossEntropyLoss(), optimizer, device)
        try:
            while True:
                yield {"pictures": count, "file_megabytes": data.pixels.nbytes / 2**20,
                       "decoded_per_second": count / decoding, "rates": list(rates),
                       "peak_megabytes": peak.bytes / 2**20}  # fmt: skip
                start = time.perf_counter()
                train_step(model, loader, nn.CrossEntropyLoss(), optimizer, device)
                wait(device)
                rates.append(len(chosen) / (time.perf_counter() - start))
        finally:
            peak.over.set()


def growth(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Each size in a process of its own, so that no peak is another's; they train in turns.

    A machine that slows down then slows them all.
    """
    with ExitStack() as stack:
        sizes = []
        for times in GROWTH:
            command = [sys.executable, __file__, "--data", args.data, "--device", args.device,
                       "--grown", str(times), "--steps", str(args.steps)]  # fmt: skip
            pipe = subprocess.PIPE
            process = stack.enter_context(
                subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
            )
            told_by(process)  # decoded before the next begins
            sizes.append(process)
        for _ in range(GROWTH_TURNS):
            found = [told_by(process, turn=True) for process in sizes]
            print(growth_table(found), flush=True)
    return found


def told_by(process: "subprocess.Popen[str]", turn: bool = False) -> dict[str, Any]:
    """What a process of `growth` tells, after one more turn if it is to take one."""
    assert process.stdin and process.stdout
    if turn:
        process.stdin.write("\n")
        process.stdin.flush()
    if not (line := process.stdout.readline()):
        raise RuntimeError("a process of --growth ended early; what it said stands above")
    return json.loads(line)


# --- tables ---


def loop_table(cases: list[dict[str, Any]]) -> str:
    lines = ["| Network | Batch | Bare step (pictures/s) | Whole loop (pictures/s) | Share of the "
             "limit (quartiles of the turns) | Wanted |", "|---|---|---|---|---|---|"]  # fmt: skip
    for case in cases:
        bare, loop, share = ([t[k] for t in case["turns"]] for k in ("bare", "loop", "share"))
        low, mid, high = quantiles(share, n=4)
        lines.append(
            f"| {case['case']} | {case['batch_size']} | {median(bare):,.0f} | {median(loop):,.0f} "
            f"| {mid:.3f} ({low:.3f}–{high:.3f}) | ≥ 0.95 |"
        )
    return "\n".join(lines)


def growth_table(sizes: list[dict[str, Any]]) -> str:
    lines = ["| Pictures | Decoded file | Decoding, once (pictures/s) | Training (pictures/s) | "
             "Peak memory of its own |", "|---|---|---|---|---|"]  # fmt: skip
    for row in sizes:
        rates = row["rates"]
        lines.append(
            f"| {row['pictures']:,} | {row['file_megabytes']:,.0f} MB | "
            f"{row['decoded_per_second']:,.0f} | {median(rates):,.0f} ({min(rates):,.0f}–"
            f"{max(rates):,.0f}) | {row['peak_megabytes']:,.0f} MB |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="FER2013: folder or CSV")
    parser.add_argument("--growth", action="store_true", help="the set repeated, instead")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.5, help="of one side of one turn")
    parser.add_argument("--steps", type=int, default=60, help="of one turn, with --growth")
    parser.add_argument("--grown", type=float, help=argparse.SUPPRESS)  # one size, for --growth
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(arguments)
    device = torch.device(args.device)
    if args.grown:
        for told in grow(args.data, args.grown, device, args.steps):
            print(json.dumps(told), flush=True)
            if not sys.stdin.readline():  # `growth` wants no more turns
                return
    told = json.loads(args.out.read_text("utf-8")) if args.out.exists() else {}
    if args.growth:
        told["growth"] = {**surroundings(device), "sizes": growth(args)}
    else:
        faces, cases = read(args.data), []
        for case in CASES:
            data = faces.decoded(case.preprocess())["train"]
            cases.append(compare(case, data, device, args.turns, args.seconds))
            print(loop_table(cases).splitlines()[-1], flush=True)
        told["loop"] = {**surroundings(device), "cases": cases}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(growth_table(told["growth"]["sizes"]) if args.growth else loop_table(cases))


if __name__ == "__main__":
    main()
