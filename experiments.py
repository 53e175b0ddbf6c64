"""Train a system, choose on validation, open the test set once, and write down all of it.

    python experiments.py train resnet18 --data fer2013 --epochs 12

`--data` is whatever `sources.load` understands: a folder, a hub id, "synthetic".
Writes checkpoints/SYSTEM-DATA.safetensors with its card, and results/SYSTEM-DATA.json.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

import sources
import systems
from hf_collate import Augment, Batches, Preprocess, decode
from insight import metrics, model_card
from train_loop import History, load_checkpoint, save_checkpoint, train
from transfer import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class Recipe:
    """The settings of one system; every field can be set from the command line."""

    size: int = 48
    mode: str = "L"
    channels: int = 1
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    epochs: int = 12
    batch_size: int = 128
    lr: float = 0.05
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    augment: Augment = Augment(degrees=12, shift=0.06, scale=0.08)


RECIPES = {
    "tinyvgg": Recipe(),
    # ImageNet's statistics and three channels, so that the weights start other transfers.
    "resnet18": Recipe(size=64, channels=3, mean=IMAGENET_MEAN, std=IMAGENET_STD),
}


def fit(
    model: nn.Module,
    recipe: Recipe,
    batches: dict[str, Batches],
    best_path: Path,
    card: dict[str, Any],
    seed: int,
    device: torch.device,
) -> History:
    """Nesterov SGD with one cycle; the best epoch by validation lands at `best_path`."""
    loader = batches["train"]
    optimizer = torch.optim.SGD(
        model.parameters(), recipe.lr, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.lr, total_steps=recipe.epochs * len(loader), pct_start=0.25
    )

    def say(epoch: int, history: History) -> None:
        print(
            f"epoch {epoch + 1:3d}/{recipe.epochs}  "
            + "  ".join(f"{key} {values[-1]:.4f}" for key, values in history.items()),
            flush=True,
        )

    return train(
        model,
        loader,
        batches["validation"],
        optimizer,
        epochs=recipe.epochs,
        loss_fn=nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing),
        device=device,
        batch_scheduler=schedule,
        best_path=best_path,
        card=card,
        on_epoch=say,
        progress=sys.stderr.isatty(),
    )


def revision() -> str:
    """The git commit, with '+' when files differ from it; 'unknown' outside a checkout."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=10"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def run(
    system: str, recipe: Recipe, data: str | None, name: str | None, seed: int, device: torch.device
) -> Path:
    """Train one system on one data set; returns the path of its results JSON."""
    torch.manual_seed(seed)
    splits = sources.load(data)
    print(sources.summary(splits))
    data_name = name or sources.slug(splits)
    class_names = list(splits["train"].features["label"].names)
    preprocess = Preprocess(recipe.size, recipe.mode, recipe.channels, recipe.mean, recipe.std)
    decoded = {split: decode(splits[split], preprocess) for split in splits}
    batches = {
        split: Batches(
            decoded[split],
            recipe.batch_size,
            shuffle=split == "train",
            seed=seed,
            augment=recipe.augment if split == "train" else None,
            device=device,
        )
        for split in splits
    }
    model = systems.build(system, num_classes=len(class_names), in_channels=preprocess.channels)
    said = [Path(word).name if Path(word).exists() else word for word in sys.argv[1:]]
    card = {
        "system": system,
        "system_args": {},
        "class_names": class_names,
        "preprocess": preprocess.settings(),
        "temperature": 1.0,
        "crop": "tight face crop, as the data set has it",
        "data": {"name": data_name, "fingerprint": sources.fingerprint(splits)},
        "seed": seed,
        "versions": {p: version(p) for p in ("torch", "torchvision", "timm", "datasets")},
        "command": " ".join(["python experiments.py", *said]),
    }
    path = Path("checkpoints") / f"{system}-{data_name}.safetensors"
    start = time.perf_counter()
    history = fit(model, recipe, batches, path, card, seed, device)
    minutes = (time.perf_counter() - start) / 60

    state, card = load_checkpoint(path)  # the best epoch, with its number and figures
    half = {k: v.half().float() if v.is_floating_point() else v for k, v in state.items()}
    model.load_state_dict(half)  # measured as it is shipped
    figures = {
        split: {
            flip: metrics.evaluate(
                *metrics.collect(model, batches[split], device, flip=flip), class_names
            )
            for flip in (False, True)
        }
        for split in ("validation", "test")
    }
    for split, results in figures.items():
        card[split] = {"k": results[False].k, "n": results[False].n}
        print(f"{split:10}  {results[False]}   with its mirror image: {results[True]}")
    save_checkpoint(path, model, card, torch.float16)
    path.with_suffix(".md").write_text(model_card.markdown(card, path.stem), encoding="utf-8")

    report = Path("results") / f"{path.stem}.json"
    report.parent.mkdir(exist_ok=True)
    report.write_text(
        json.dumps(
            {
                **card,
                "revision": revision(),
                "recipe": asdict(recipe),
                "minutes": round(minutes, 2),
                "hardware": f"{device.type} {torch.get_num_threads()} threads {platform.machine()}",
                "parameters": sum(p.numel() for p in model.parameters()),
                "history": history,
                **{
                    split: {"plain": results[False].as_dict(), "flip": results[True].as_dict()}
                    for split, results in figures.items()
                },
            },
            indent=1,
        )
        + "\n"
    )
    print(f"{minutes:.1f} minutes; wrote {path} and {report}")
    return report


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    trainer = commands.add_parser("train", help="train one system, then evaluate it")
    trainer.add_argument("system", choices=RECIPES)
    trainer.add_argument(
        "--data",
        help="folder, hub id or 'synthetic' (default: EXPRESSION_DATA, "
        "then the hub, then synthetic)",
    )
    trainer.add_argument("--name", help="the data set's name in file names (default: the folder's)")
    trainer.add_argument("--seed", type=int, default=0)
    trainer.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for option, kind in (
        ("size", int),
        ("epochs", int),
        ("batch-size", int),
        ("lr", float),
        ("weight-decay", float),
        ("label-smoothing", float),
    ):
        trainer.add_argument(f"--{option}", type=kind, help="(default: the system's recipe)")
    args = parser.parse_args(arguments)
    given = {
        key: value
        for key, value in vars(args).items()
        if key in Recipe.__dataclass_fields__ and value is not None
    }
    run(
        args.system,
        replace(RECIPES[args.system], **given),
        args.data,
        args.name,
        args.seed,
        torch.device(args.device),
    )


if __name__ == "__main__":
    main()
