"""Where a checkpoint comes from: commit, packages, machine, and the files it learnt from."""

import platform
import subprocess
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from expression.checkpoint import read_card, resolve_checkpoint
from lab.recipe import Recipe
from train_loop import History

__all__ = [
    "ancestors",
    "hardware",
    "joined_history",
    "kept_by",
    "learnt_from",
    "on_cpu",
    "revision",
    "stage_of",
    "stages",
    "totals",
    "versions",
]

# What a stage tells where the card of its checkpoint does not, such as the notebook's.
UNKNOWN = {"command": "", "revision": "unknown", "seed": 0, "minutes": 0.0, "hardware": "unknown"}
VERSIONS = ("torch", "torchvision", "timm", "datasets")


def versions() -> dict[str, str]:
    """Of the packages that shape a training; a packed data set does without `datasets`."""
    found = {}
    for package in VERSIONS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def learnt_from(recipe: Recipe) -> dict[str, str]:
    """Checkpoint paths that a run starts from or is taught by → SHA-256 of the files."""
    paths = [path for path in (recipe.init_from, *recipe.teacher.split(",")) if path]
    if recipe.weights not in ("", "imagenet"):
        paths.append(recipe.weights)
    return {path: sha256(resolve_checkpoint(path).read_bytes()).hexdigest() for path in paths}


def stages(recipe: Recipe) -> list[dict[str, Any]]:
    """The trainings that went before a run: of the checkpoint it starts from, and of its start.

    Each with the file it ended in, its history and what it reached on validation, so that what
    a stage brought can be read off.
    """
    if not recipe.init_from:
        return []
    card = read_card(resolve_checkpoint(recipe.init_from))
    return [*card.get("stages", ()), stage_of(card, learnt_from(recipe)[recipe.init_from])]


def stage_of(card: dict[str, Any], digest: str) -> dict[str, Any]:
    """What the card of a later training tells of one that went before; `digest` is the SHA-256 of
    the file that this one ended in."""
    told = {key: card.get(key, unknown) for key, unknown in UNKNOWN.items()}
    history = card.get("history", {})
    told |= {"epochs": len(history.get("val_accuracy", ())), "validation": card.get("validation")}
    told |= {"sha256": digest, "history": history, "learnt_from": card.get("learnt_from", {})}
    return told


def ancestors(card: dict[str, Any]) -> dict[str, str]:
    """SHA-256 → name of every checkpoint file that a network, or a stage of it, learnt from."""
    told = [stage.get("learnt_from", {}) for stage in card.get("stages", ())]
    pairs = [pair for each in (*told, card.get("learnt_from", {})) for pair in each.items()]
    return {digest: Path(path).stem for path, digest in pairs}


def totals(card: dict[str, Any]) -> tuple[float, int]:
    """(minutes, epochs) of all stages of a training together; 0 epochs where it has none."""
    earlier = card.get("stages", ())
    epochs = len(card.get("history", {}).get("val_loss", ()))
    minutes = card.get("minutes", 0.0) + sum(stage["minutes"] for stage in earlier)
    return minutes, epochs + sum(stage["epochs"] for stage in earlier)


def joined_history(card: dict[str, Any]) -> tuple[History, int]:
    """(history of all stages, one after the other; the epoch that was chosen, from 1).

    A stage whose history was not kept (older cards) is left out. ({}, 0) for a network
    without epochs.
    """
    if not card.get("history"):
        return {}, 0
    earlier = [stage["history"] for stage in card.get("stages", ()) if stage.get("history")]
    joined = {
        key: [value for history in (*earlier, card["history"]) for value in history[key]]
        for key in card["history"]
    }
    before = sum(len(history["val_loss"]) for history in earlier)
    return joined, before + card["epoch"] + 1


def kept_by(card: dict[str, Any]) -> str:
    """Why a network's epoch was exported and no other, in a few words."""
    last = card.get("recipe", {}).get("keep") == "last"
    return "the last, without a choice" if last else "by validation accuracy"


def revision() -> str:
    """The git commit, with '+' when files differ from it; 'unknown' outside a checkout."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=10"],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def on_cpu(card: dict[str, Any]) -> bool:
    """Whether a card's training, or a stage's, ran on a processor; the oldest cards do not say."""
    return "cpu" in card.get("hardware", "cpu").lower()


def hardware(device: torch.device, processes: int = 1) -> str:
    """What a measurement or a training ran on, in a few words."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return name if processes == 1 else f"{processes} × {name}"
    threads = torch.get_num_threads()
    told = f"cpu, {threads} thread{'s' * (threads > 1)}, {platform.machine()}"
    return told if processes == 1 else f"{processes} processes, each {told}"
