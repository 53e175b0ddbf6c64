"""FER2013 speedrun: seconds from random weights to 65, 70 or 72 % on PrivateTest.

    python benchmarks/speedrun.py --data fer2013 --target 65            one seed; PublicTest only
    python benchmarks/speedrun.py --data fer2013 --target 65 --seeds 5 --final

The training pictures stay on the device as uint8; every epoch changes each of them anew (mirror,
turn, shift, scale) in a few large calls; a ResNet9 learns in channels_last, in bfloat16 where the
hardware is made for it, on small pictures first; label smoothing, Nesterov momentum, one cycle of
the rate, a moving average of the weights. The answer is averaged over mirror image and shifts.

Network, schedule and number of epochs were chosen on PublicTest (validation). PrivateTest (test)
is read by `--final` alone, once a seed, after the last epoch; the JSON says both. Told apart are
the seconds of training, of the final answers, of loading and, with --compile, of compiling.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, from any folder

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import described, surroundings, wait
from expression.preprocessing import Preprocess
from hf_collate import Augment
from lab.data import read
from lab.models.resnet9 import ResNet9
from lab.training import fast_precision

__all__ = ["table"]

OUT = Path(__file__).resolve().parent / "speedrun.json"
SPLITS = ("train", "validation", "test")
SHIFTS = ((0, 0), (-1, -1), (1, 1))  # pixels right and down, at test time
CHUNK = 4096  # pictures changed in one call


@dataclass(frozen=True)
class Settings:
    """Everything a run depends on beside the data and the seed."""

    epochs: int
    sides: tuple[int, ...] = (32, 40, 48)  # of the training pictures, an equal share of epochs each
    stem: int = 32
    widths: tuple[int, ...] = (64, 128, 256)
    residuals: tuple[int, ...] = (0, 1, 1)
    batch_size: int = 128
    lr: float = 0.15
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.2  # share of the steps in which the rate rises
    smoothing: float = 0.1
    ema: float = 0.99  # of the weights, per step
    augment: Augment = Augment(degrees=12, shift=0.06, scale=0.08, brightness=0, contrast=0)


TARGETS = {
    65: Settings(epochs=20, sides=(32,), stem=16, widths=(32, 64, 128)),
    70: Settings(epochs=40),
    72: Settings(epochs=80, widths=(64, 128, 256, 512), residuals=(1, 1, 1, 1)),
}


def network(settings: Settings, classes: int = 7) -> ResNet9:
    """Gray images (N, 1, H, W) → logits (N, classes)."""
    return ResNet9(
        1, classes, stem=settings.stem, widths=settings.widths, residuals=settings.residuals
    )


def batches(pixels: Tensor, labels: Tensor, side: int, settings: Settings,
            generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """One epoch in a new order: normalised images (n, 1, side, side), labels (n,).

    The last, short batch is left out: its pictures come earlier in other epochs.
    """
    augment = replace(settings.augment, side=side)
    order = torch.randperm(len(labels), generator=generator).to(pixels.device)
    order = order[: len(order) // settings.batch_size * settings.batch_size]
    for rows in order.split(CHUNK // settings.batch_size * settings.batch_size):
        images = normalise(augment(pixels[rows].float() / 255, generator))
        yield from zip(
            images.split(settings.batch_size), labels[rows].split(settings.batch_size), strict=True
        )


def normalise(images: Tensor) -> Tensor:
    """Gray in [0, 1] → about zero mean and unit spread, channels last."""
    return ((images - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)


def make_optimizer(model: nn.Module, settings: Settings, steps: int) -> tuple[Any, Any]:
    """Nesterov momentum, weights alone decaying; the rate rises and falls to nothing once."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, settings.lr, momentum=settings.momentum, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=steps, pct_start=settings.warmup,
        anneal_strategy="linear", cycle_momentum=False,
    )  # fmt: skip
    return optimizer, schedule


@torch.inference_mode()
def accuracy(model: nn.Module, pixels: Tensor, labels: Tensor, side: int,
             precision: torch.dtype) -> float:  # fmt: skip
    """Share in [0, 1] of right answers, averaged over mirror image and shifts of one pixel.

    Pictures are shown with the side of the last epochs.
    """
    model.eval()
    right = 0
    for rows, truth in zip(pixels.split(512), labels.split(512), strict=True):
        images = F.interpolate(rows.float() / 255, side, mode="bilinear", align_corners=False)
        padded = F.pad(normalise(images), (1, 1, 1, 1), mode="replicate")
        total = 0
        for x, y in SHIFTS:
            view = padded[..., 1 + y : 1 + y + side, 1 + x : 1 + x + side]
            for seen in (view, view.flip(-1)):
                with torch.autocast(
                    pixels.device.type, precision, enabled=precision != torch.float32
                ):
                    answer = model(seen.contiguous(memory_format=torch.channels_last))
                total = total + answer.float().log_softmax(1)
        right += int((total.argmax(1) == truth).sum())
    return right / len(labels)


def flops_per_picture(settings: Settings, side: int) -> float:
    """Operations (a multiplication and an addition are two) of a step, divided by its pictures."""
    model = network(settings)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(8, 1, side, side)).sum().backward()
    return counter.get_total_flops() / 8


def side_of(epoch: int, settings: Settings) -> int:
    return settings.sides[epoch * len(settings.sides) // settings.epochs]


def run(data: dict[str, tuple[Tensor, Tensor]], settings: Settings, seed: int,
        precision: torch.dtype, compiled: bool, final: bool) -> dict[str, Any]:  # fmt: skip
    """Train once; returns seconds and accuracies. `final` opens PrivateTest at the end."""
    pixels, labels = data["train"]
    device = pixels.device
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = network(settings, int(labels.max()) + 1)
    model = model.to(device, memory_format=torch.channels_last)
    steps = len(labels) // settings.batch_size * settings.epochs
    optimizer, schedule = make_optimizer(model, settings, steps)
    average = AveragedModel(
        model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema), use_buffers=True
    )
    compiling = compile_for(model, settings, precision) if compiled else 0.0
    step = torch.compile(model) if compiled else model
    flops = {side: flops_per_picture(settings, side) for side in settings.sides}
    wait(device)
    start, operations = time.perf_counter(), 0.0
    for epoch in range(settings.epochs):
        step.train()
        side = side_of(epoch, settings)
        losses = []
        for images, truth in batches(pixels, labels, side, settings, generator):
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                logits = step(images)
            loss = F.cross_entropy(logits.float(), truth, label_smoothing=settings.smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
            losses.append(loss.detach())
            operations += len(truth) * flops[side]
        told = torch.stack(losses).mean().item()
        print(f"  epoch {epoch + 1:3d}/{settings.epochs}  {side} px  loss {told:.4f}  "
              f"{time.perf_counter() - start:.1f} s", flush=True)  # fmt: skip
    wait(device)
    trained = time.perf_counter()
    found = {"seed": seed, "training": trained - start, "compiling": compiling,
             "pflop": operations / 1e15}  # fmt: skip
    if final:
        found["test"] = accuracy(average, *data["test"], side, precision)
        found["answering"] = time.perf_counter() - trained
    return found | {"validation": accuracy(average, *data["validation"], side, precision)}


def compile_for(model: nn.Module, settings: Settings, precision: torch.dtype) -> float:
    """Seconds of compiling a training step for every side; weights and statistics stay."""
    start, kept = time.perf_counter(), {k: v.clone() for k, v in model.state_dict().items()}
    device, step = next(model.parameters()).device, torch.compile(model).train()
    for side in settings.sides:
        images = normalise(torch.rand(settings.batch_size, 1, side, side, device=device))
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            logits = step(images)
        logits.float().sum().backward()
    model.zero_grad()
    model.load_state_dict(kept)
    wait(device)
    return time.perf_counter() - start


def load(where: str, device: torch.device) -> dict[str, tuple[Tensor, Tensor]]:
    """{split: (uint8 pixels (n, 1, 48, 48), labels (n,))} on the device, loaded once."""
    decoded = read(where).decoded(Preprocess(48, "L"))
    return {s: (decoded[s].pixels.to(device), decoded[s].labels.to(device)) for s in SPLITS}


def told_of(runs: list[dict[str, Any]], key: str, scale: float = 1.0, digits: int = 2) -> str:
    """Mean ± standard deviation over the seeds; a dash where nothing was measured."""
    values = [scale * run[key] for run in runs if key in run]
    if not values:
        return "–"
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def table(told: dict[str, Any]) -> str:
    """One row for each device and target that was run."""
    lines = [
        "| Target | Where | Seeds | PublicTest (%) | PrivateTest (%) | Training (s) | "
        "Answers (s) | Loading (s) | Compiling (s) | PFLOP | Epochs, sides |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in told.items():
        runs, settings = row["runs"], row["settings"]
        sides = ", ".join(map(str, settings["sides"]))
        cells = [
            f"{name.split()[1]} %",
            described(row),
            str(len(runs)),
            told_of(runs, "validation", 100),
            told_of(runs, "test", 100),
            told_of(runs, "training", digits=1),
            told_of(runs, "answering", digits=1),
            f"{row['loading']:.1f}",
            told_of(runs, "compiling", digits=1),
            told_of(runs, "pflop", digits=3),
            f"{settings['epochs']}, {sides} px",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def as_json(settings: Settings) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(settings)))


def joined(out: Path, name: str, told: dict[str, Any]) -> dict[str, Any]:
    """Write a seed's row into the JSON; returns all rows.

    Other seeds of the same settings, machine, threads and versions are kept beside it, so that
    seeds may be run one by one, or side by side; those of anything else, or with PrivateTest
    unread beside read, give way to it.
    """
    known = json.loads(out.read_text("utf-8")) if out.exists() else {}
    before = known.get(name, {})
    same = all(
        before.get(key) == told[key]
        for key in ("settings", "device", "cores", "threads", "versions")
    )
    if same and all(run.keys() == told["runs"][0].keys() for run in before["runs"]):
        others = [run for run in before["runs"] if run["seed"] != told["runs"][0]["seed"]]
        told["runs"] = sorted([*others, *told["runs"]], key=lambda run: run["seed"])
    known[name] = told
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return known


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder, CSV, or a packed .npz")
    parser.add_argument("--target", type=int, choices=TARGETS, default=65, metavar="65|70|72")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="instead of the target's own")
    parser.add_argument("--final", action="store_true", help="read PrivateTest after each seed")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=OUT, help="JSON; what else is in it is kept")
    args = parser.parse_args(arguments)
    device, settings = torch.device(args.device), TARGETS[args.target]
    precision = fast_precision(device)
    if precision == torch.float16:  # it wants its gradients scaled, which nothing here does
        precision = torch.float32
    if args.epochs:
        settings = replace(settings, epochs=args.epochs)
    start = time.perf_counter()
    data = load(args.data, device)
    wait(device)
    loading, name = time.perf_counter() - start, f"{device.type} {args.target}"
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        found = run(data, settings, seed, precision, args.compile, args.final)
        print(json.dumps({k: round(v, 4) for k, v in found.items()}), flush=True)
        told = {**surroundings(device), "loading": loading, "settings": as_json(settings),
                "runs": [found]}  # fmt: skip
        known = joined(args.out, name, told)  # after every seed: a cut loses one
    print(table({name: known[name]}))


if __name__ == "__main__":
    main()
