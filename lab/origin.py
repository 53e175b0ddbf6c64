"""Where a checkpoint comes from: commit, packages, machine, and the files it learnt from."""

import platform
import subprocess
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from lab.evaluation import resolve_checkpoint
from lab.recipes import Recipe
from studio.card import read_card

__all__ = ["hardware", "learnt_from", "revision", "stages", "versions"]

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
    paths = [path for path in (recipe.start, *recipe.teacher.split(",")) if path]
    return {path: sha256(Path(resolve_checkpoint(path)).read_bytes()).hexdigest() for path in paths}


def stages(recipe: Recipe) -> list[dict[str, Any]]:
    """The trainings that went before a run: of the checkpoint it starts from, and of its start.

    Each with what it reached on validation, so that what a stage brought can be read off.
    """
    if not recipe.start:
        return []
    card = read_card(resolve_checkpoint(recipe.start))
    told = {key: card[key] for key in ("command", "revision", "seed", "minutes", "hardware")}
    told |= {"epochs": len(card["history"]["val_accuracy"]), "validation": card.get("validation")}
    return [*card.get("stages", ()), told]


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


def hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' * (threads > 1)}, {platform.machine()}"
