"""FER2013 speedrun: seconds from random weights to 65, 70 or 72 % on PrivateTest.

    python -m benchmarks.speedrun --data path/to/fer2013 --target 65     one seed, PublicTest only
    python -m benchmarks.speedrun --data path/to/fer2013 --target 65 --seeds 5 --final
    python -m benchmarks.speedrun --data path/to/fer2013 --mixup 0.2 --out out/other.json

The training pictures stay on the device as uint8; every epoch augments them anew in a few large
calls. A ResNet9 trains in channels_last, in bfloat16 where the hardware is made for it, on small
pictures first: label smoothing, Nesterov momentum, one cycle of the learning rate, a moving average
of the weights. It answers with test-time augmentation, 6 views (flip × 3 shifts). The settings of a
target stand in `TARGETS`, a line each; every field of `Settings` is an option too.

Network, schedule and epochs were chosen on PublicTest (validation). PrivateTest (test) is read with
--final only, once a seed, after the last epoch. A seed that the JSON already holds from the same
settings, machine and versions is not run again, so that a run that was cut short goes on.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, get_args, get_type_hints

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import harness
from benchmarks.subjects import (
    Augment,
    HeadLoss,
    Mixup,
    Preprocess,
    ResNet9,
    autocast,
    fast_precision,
    head_targets,
    read,
)

__all__ = ["TARGETS", "Settings", "table"]

SPLITS = ("train", "validation", "test")
SHIFTS = ((0, 0), (-1, -1), (1, 1))  # pixels right and down, at test time
CHUNK = 4096  # pictures augmented in one call
HEADS = ("Target", "Where", "Seeds", "PublicTest (%)", "PrivateTest (%)", "Training (s)",
         "Answers (s)", "Loading (s)", "PFLOP", "Epochs, sides")  # fmt: skip
Data = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Settings:
    """Everything that a run depends on beside the data and the seed."""

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
    mixup: float = 0.0  # alpha
    focal_gamma: float = 0.0  # of the loss; 0: cross-entropy
    final_unaugmented_epochs: int = 0  # at the last side; pictures are at most mirrored
    votes: bool = False  # a second head learns the crowd's votes; the label head answers
    augment: Augment = Augment(degrees=12, shift=0.06, scale=0.08, brightness=0, contrast=0)


TARGETS = {
    65: Settings(epochs=20, sides=(32,), stem=16, widths=(32, 64, 128)),
    70: Settings(epochs=40),
    72: Settings(epochs=80, widths=(64, 128, 256, 512), residuals=(1, 1, 1, 1)),
}


def make_model(settings: Settings, num_classes: int = 7) -> ResNet9:
    """Gray images (N, 1, H, W) → logits (N, num_classes)."""
    return ResNet9(1, num_classes, stem=settings.stem, widths=settings.widths,
                   residuals=settings.residuals)  # fmt: skip


def batches(pixels: Tensor, targets: Tensor, augment: Augment, settings: Settings,
            generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """One epoch in a new order: normalised images (n, 1, side, side), targets (n, …).

    The last, short batch is left out; its pictures come earlier in other epochs.
    """
    size = settings.batch_size
    order = torch.randperm(len(targets), generator=generator).to(pixels.device)
    for rows in order[: len(order) // size * size].split(CHUNK // size * size):
        images, shown = augment(pixels[rows].float() / 255, generator), targets[rows]
        if settings.mixup:
            images, shown = Mixup(settings.mixup)(images, shown, generator)
        yield from zip(normalise(images).split(size), shown.split(size), strict=True)


def augmentation_for(epoch: int, settings: Settings) -> Augment:
    """The changes of this epoch's pictures, and the side that they are resampled to."""
    sides, augment = settings.sides, settings.augment
    if epoch >= settings.epochs - settings.final_unaugmented_epochs:
        return replace(augment, degrees=0, shift=0, scale=0, erase=0, side=sides[-1])
    return replace(augment, side=sides[epoch * len(sides) // settings.epochs])


def normalise(images: Tensor) -> Tensor:
    """Gray in [0, 1] → about zero mean and unit spread, channels_last."""
    return ((images - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)


def make_optimizer(model: nn.Module, settings: Settings, steps: int) -> tuple[Any, Any]:
    """Nesterov momentum with weight decay on weights only; one cycle of the learning rate."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1],
         "weight_decay": settings.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]  # fmt: skip
    optimizer = torch.optim.SGD(groups, settings.lr, momentum=settings.momentum, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=steps, pct_start=settings.warmup,
        anneal_strategy="linear", cycle_momentum=False,
    )  # fmt: skip
    return optimizer, schedule


@torch.inference_mode()
def accuracy(model: nn.Module, pixels: Tensor, labels: Tensor, side: int,
             precision: torch.dtype, num_classes: int | None = None) -> float:  # fmt: skip
    """Accuracy in [0, 1], averaged over flip and shifts, on pictures of `side` pixels.

    The first `num_classes` logits answer: with several heads those of the labels.
    """
    model.eval()
    correct = 0
    for rows, truth in zip(pixels.split(512), labels.split(512), strict=True):
        images = F.interpolate(rows.float() / 255, side, mode="bilinear", align_corners=False)
        padded = F.pad(normalise(images), (1, 1, 1, 1), mode="replicate")
        total = torch.zeros(())
        for x, y in SHIFTS:
            shifted = padded[..., 1 + y : 1 + y + side, 1 + x : 1 + x + side]
            for view in (shifted, shifted.flip(-1)):
                with autocast(pixels.device, precision):
                    logits = model(view.contiguous(memory_format=torch.channels_last))
                logits = logits[:, :num_classes]
                total = total.to(logits.device) + logits.float().log_softmax(1)
        correct += int((total.argmax(1) == truth).sum())
    return correct / len(labels)


def flops_per_picture(settings: Settings, side: int) -> float:
    """Operations of a training step for each picture; a multiplication and an addition are two."""
    model = make_model(settings)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(8, 1, side, side)).sum().backward()
    return counter.get_total_flops() / 8


def run(data: Data, settings: Settings, seed: int, precision: torch.dtype,
        final: bool) -> dict[str, Any]:  # fmt: skip
    """Train once; returns seconds and accuracies. `final` reads PrivateTest at the end."""
    pixels, targets = data["train"]  # targets (n, heads, classes)
    device, classes = pixels.device, targets.shape[2]
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = make_model(settings, targets.shape[1] * classes)
    model = model.to(device, memory_format=torch.channels_last).train()
    loss_fn = HeadLoss(None, settings.smoothing, settings.focal_gamma)
    steps = len(targets) // settings.batch_size
    optimizer, schedule = make_optimizer(model, settings, steps * settings.epochs)
    average = AveragedModel(
        model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema), use_buffers=True
    )
    flops = {side: flops_per_picture(settings, side) for side in settings.sides}
    harness.synchronize(device)
    start, operations = time.perf_counter(), 0.0
    for epoch in range(settings.epochs):
        augment, losses = augmentation_for(epoch, settings), []
        for images, shown in batches(pixels, targets, augment, settings, generator):
            with autocast(device, precision):
                logits = model(images)
            loss = loss_fn(logits.float(), shown)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
            losses.append(loss.detach())
        operations += steps * settings.batch_size * flops[augment.side]
        print(f"  epoch {epoch + 1:3d}/{settings.epochs}  {augment.side} px  "
              f"loss {torch.stack(losses).mean().item():.4f}  "
              f"{time.perf_counter() - start:.1f} s", flush=True)  # fmt: skip
    harness.synchronize(device)
    trained, side = time.perf_counter(), settings.sides[-1]
    found = {"seed": seed, "training": trained - start, "pflop": operations / 1e15}
    if final:
        found["test"] = accuracy(average, *data["test"], side, precision, classes)
        found["answering"] = time.perf_counter() - trained
    return found | {"validation": accuracy(average, *data["validation"], side, precision, classes)}


def load(where: str, device: torch.device, votes: Path | None = None) -> Data:
    """{split: (uint8 pixels (n, 1, 48, 48), labels (n,))} on the device; those of train are targets
    (n, heads, classes): the labels', and with a file of `votes` the crowd's too."""
    faces = read(where, votes=votes)
    decoded, classes = faces.decoded(Preprocess(48, "L")), len(faces.class_names)
    truth = {split: decoded[split].labels for split in SPLITS}
    heads, crowd = (("label", "votes"), faces.votes("train")) if votes else (("label",), None)
    truth["train"] = head_targets(heads, truth["train"], crowd, classes)
    return {s: (decoded[s].pixels.to(device), truth[s].to(device)) for s in SPLITS}


def known_runs(out: Path, name: str, about: Mapping[str, Any], final: bool) -> list[dict]:
    """The seeds that `out` holds; ValueError where they come from other conditions."""
    known = (harness.read_json(out) or {}).get(name)
    if known is None:
        return []
    known["settings"] = {**as_json(Settings(0)), **known["settings"]}  # of older files too
    other = [key for key in ("settings", "machine", "versions") if known[key] != about[key]]
    other += [] if all(("test" in run) == final for run in known["runs"]) else ["--final"]
    if other:
        raise ValueError(f"{out} holds runs with other {', '.join(other)}; give another --out")
    return known["runs"]


def spread(runs: Sequence[Mapping[str, Any]], key: str, scale: float = 1, digits: int = 2) -> str:
    """Mean ± standard deviation over the seeds; a dash where nothing was measured."""
    values = [scale * run[key] for run in runs if key in run]
    if not values:
        return "–"
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{deviation}"


def table(told: Mapping[str, Any]) -> str:
    """A row for each device and target that was run."""

    def cells(name: str, row: Mapping[str, Any]) -> Iterator[str]:
        runs, settings = row["runs"], row["settings"]
        yield from (f"{name.split()[1]} %", harness.described(row), str(len(runs)))
        yield from (spread(runs, key, 100) for key in ("validation", "test"))
        yield from (spread(runs, key, digits=1) for key in ("training", "answering"))
        yield from (f"{row['loading']:.1f}", spread(runs, "pflop", digits=3))
        yield f"{settings['epochs']}, {', '.join(map(str, settings['sides']))} px"

    return harness.markdown_table(HEADS, (list(cells(*item)) for item in told.items()))


def as_json(settings: Settings) -> dict[str, Any]:
    """Settings as a JSON file gives them back."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items()}


def add_settings(parser: argparse.ArgumentParser) -> None:
    """An option for each field of `Settings` that is a number or several."""
    for name, kind in get_type_hints(Settings).items():
        many = get_args(kind)[:1]
        number = many[0] if many else kind
        if number in (int, float):
            word = "--" + name.replace("_", "-")
            parser.add_argument(word, type=number, nargs="+" if many else None,
                                help="instead of the target's own")  # fmt: skip


def given_settings(args: argparse.Namespace) -> Settings:
    """The target's settings with those that the options change."""
    given = {f.name: getattr(args, f.name, None) for f in fields(Settings)}
    changes = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    changes = {name: value for name, value in changes.items() if value is not None}
    return replace(TARGETS[args.target], **changes | {"votes": args.votes is not None})


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.parser("speedrun", __doc__, "FER2013: folder, CSV or .npz")
    parser.add_argument("--target", type=int, choices=TARGETS, default=65, metavar="65|70|72")
    parser.add_argument("--seeds", type=harness.positive, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--votes", type=Path, metavar="FILE", help="FER+'s, for a second head")
    parser.add_argument("--final", action="store_true", help="read PrivateTest after each seed")
    add_settings(parser)
    args = harness.parse(parser, arguments)
    settings, precision = given_settings(args), fast_precision(args.device)
    if precision == torch.float16:  # needs scaled gradients, which this loop does not do
        precision = torch.float32
    about = harness.record("speedrun", arguments, args.device, **as_json(settings))
    name = f"{args.device.type} {args.target}"
    known_runs(args.out, name, about, args.final)  # an error now, not after an hour
    start = time.perf_counter()
    data = load(args.data, args.device, args.votes)
    harness.synchronize(args.device)
    about["loading"] = time.perf_counter() - start
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        if seed in {one["seed"] for one in known_runs(args.out, name, about, args.final)}:
            print(f"seed {seed} is in {args.out} already")
            continue
        mine = run(data, settings, seed, precision, args.final)
        # read again: another program may have written seeds of its own meanwhile
        known = [one for one in known_runs(args.out, name, about, args.final)
                 if one["seed"] != seed]  # fmt: skip
        runs = sorted([*known, mine], key=lambda one: one["seed"])
        others = harness.read_json(args.out) or {}
        harness.write_json(args.out, {**others, name: {**about, "runs": runs}})
    print(table({name: harness.read_json(args.out)[name]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
