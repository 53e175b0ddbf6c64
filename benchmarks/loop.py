"""How much the training loop costs beside the bare training step.

    python -m benchmarks.loop --data path/to/fer2013              → benchmarks/loop.json

The bare step is forward, loss, backward and optimizer on a batch that is already on the device.
Beside it runs one epoch as the project trains: `Batches` with augmentation, `train_step` with its
checks and metrics, on the same network. Both take turns; the loop's share is its speed divided by
the bare step's speed in the same round. Run it on an idle machine.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import harness, subjects

__all__ = ["CASES", "Case", "bare_step", "compare", "make_network", "shares", "table"]

HEADS = ("Network", "Batch", "Bare step (pictures/s)", "Training loop (pictures/s)",
         "Loop / bare step (quartiles of the rounds)")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A network and the pictures it is trained on."""

    name: str
    model: str
    size: int
    channels: int
    batch_size: int
    args: dict[str, Any] = field(default_factory=dict)

    def preprocess(self) -> subjects.Preprocess:
        return subjects.Preprocess(self.size, "L", self.channels)


CASES = (
    Case("TinyVGG, 64 px", "tinyvgg", 64, 3, 64, {"hidden_channels": 16}),
    Case("gray ResNet18, 48 px", "gray_resnet", 48, 1, 64, {"stem": "stock"}),
    Case("ResNet18, 112 px", "resnet18", 112, 3, 64),
    Case("ResNet9, 48 px", "resnet9", 48, 1, 128),
)


def make_network(
    case: Case, device: torch.device, memory_format: torch.memory_format = torch.channels_last,
    fused: bool | None = None,
) -> tuple[nn.Module, torch.optim.Optimizer]:  # fmt: skip
    """A case's network from seed 0 and its optimizer."""
    torch.manual_seed(0)
    model = subjects.build(case.model, num_classes=7, in_channels=case.channels, **case.args)
    model = model.to(device, memory_format=memory_format)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True, fused=fused)
    return model, optimizer


def bare_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor],
    precision: torch.dtype,
) -> Callable[[], None]:  # fmt: skip
    """A training step: what no loop can leave out, and nothing else."""
    images, labels = batch
    autocast, loss_fn = subjects.autocast, nn.CrossEntropyLoss()
    model.train()

    def step() -> None:
        with autocast(images.device, precision):
            logits = model(images)
        loss = loss_fn(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def compare(
    case: Case, data: subjects.Decoded, device: torch.device, rounds: int, seconds: float
) -> dict[str, Any]:
    """Pictures a second of the bare step and of the loop in each round; both do as many steps."""
    model, optimizer = make_network(case, device)
    precision, loss_fn = subjects.fast_precision(device), nn.CrossEntropyLoss()
    train_step = subjects.train_step
    settings = {"shuffle": True, "augment": subjects.Augment(), "device": device}
    batch = next(iter(subjects.Batches(data, case.batch_size, **settings)))
    step = bare_step(model, optimizer, batch, precision)
    count = max(2, harness.calls_in(step, seconds, device)) * case.batch_size
    rows = range(min(count, len(data)))
    loader = subjects.Batches(data, case.batch_size, indices=rows, **settings)
    pictures = len(loader) * case.batch_size

    def bare() -> None:
        for _ in range(len(loader)):
            step()

    def loop() -> None:
        train_step(model, loader, loss_fn, optimizer, device, precision=precision)

    def rate(call: Callable[[], None]) -> float:
        return pictures / harness.seconds_of(call, device)

    ways = {"bare": partial(rate, bare), "loop": partial(rate, loop)}
    return {"network": case.name, "batch_size": case.batch_size, "pictures": pictures,
            "precision": str(precision), **harness.paired_rounds(ways, rounds)}  # fmt: skip


def shares(row: dict[str, Any]) -> list[float]:
    """The loop's speed divided by the bare step's, round by round."""
    return harness.ratios(row["loop"], row["bare"])


def table(told: dict[str, Any]) -> str:
    def cells(row: dict[str, Any]) -> Iterator[str]:
        yield from (row["network"], str(row["batch_size"]))
        yield from (f"{median(row[way]):,.0f}" for way in ("bare", "loop"))
        share = shares(row)
        low, mid, high = quantiles(share, n=4) if len(share) > 1 else share * 3
        yield f"{mid:.3f} ({low:.3f}–{high:.3f})"

    return harness.markdown_table(HEADS, (list(cells(row)) for row in told["rows"]))


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.parser("loop", __doc__, "FER2013: folder, CSV or .npz", 15, 1.5)
    args = harness.parse(parser, arguments)
    faces = subjects.read(args.data)

    def rows() -> Iterator[dict[str, Any]]:
        for case in CASES:
            data = faces.decoded(case.preprocess())["train"]
            yield compare(case, data, args.device, args.rounds, args.seconds)

    about = harness.record("loop", arguments, args.device, rounds=args.rounds, seconds=args.seconds)
    return harness.measure_rows(args.out, about, rows(), table)


if __name__ == "__main__":
    sys.exit(main())
