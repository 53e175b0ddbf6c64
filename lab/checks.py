"""What can be said about a run before any data are loaded: settings that do not go together,
arguments that no network knows, files that are not there.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path

import torch

import transfer
from expression.checkpoint import HUB_PREFIX, known_names, resolve_checkpoint
from expression.files import whole_files
from lab import models
from lab import svm_training as classical
from lab.data import preprocess
from lab.models.outline import build_outline
from lab.ranges import out_of_range
from lab.recipe import Network, Pictures, Recipe

__all__ = ["UsageError", "check_all_files", "check_device", "check_files", "check_paths",
           "check_recipe"]  # fmt: skip

MOST_TENSORS, MOST_PARAMETERS = 500, 300_000_000  # of a network that is trained


class UsageError(ValueError):
    """The command line asks for something that cannot be done; the message says what to change."""


def check_recipe(recipe: Recipe) -> None:
    """Raises UsageError for a value out of range, for settings that contradict each other, and
    for a system that cannot be built from its arguments."""
    check_ranges(recipe)
    check_combinations(recipe)
    check_system_args(recipe)
    try:
        preprocess(recipe)
    except ValueError as error:
        raise UsageError(f"mode, channels, mean and std do not fit together: {error}") from error


def check_ranges(recipe: Recipe) -> None:
    values = {**vars(recipe), **(vars(recipe.augment) if recipe.augment else {})}
    if said := out_of_range(values):
        raise UsageError(said)


def check_combinations(recipe: Recipe) -> None:
    pretrained = recipe.system in transfer.BACKBONES
    takes_weights = "weights" in models.known_arguments(recipe.system)
    problems = {
        "--epochs is 0: nothing would be learnt":
            recipe.system not in classical.SYSTEMS and recipe.epochs < 1,
        "--schedule onecycle has a warm-up of its own: add --warmup 0, or choose another schedule":
            recipe.schedule == "onecycle" and recipe.warmup > 0,
        "--init-from and --weights both say where the network starts: give one, the other as ''":
            bool(recipe.init_from and recipe.weights),
        "--fine-tune goes on from a checkpoint, named by --init-from: --weights would be ignored":
            recipe.fine_tune and bool(recipe.weights),
        f"--weights: {recipe.system} has no pretrained weights; --init-from goes on from a "
        "checkpoint of the same network": bool(recipe.weights) and not takes_weights,
        f"--head-epochs: {recipe.system} has no pretrained backbone to freeze; "
        f"{', '.join(transfer.BACKBONES)} have": recipe.head_epochs > 0 and not pretrained,
        f"--head-epochs trains with AdamW: --optimizer {recipe.optimizer} would be ignored":
            recipe.head_epochs > 0 and recipe.optimizer != "adamw",
        "--class-weights and --weighted-sampling both even out the classes: give one of them, the "
        "other as --no-class-weights or 0":
            recipe.class_weights and recipe.weighted_sampling > 0,
        "--shuffle-buffer and --weighted-sampling both say which pictures come when: give one":
            recipe.shuffle_buffer > 0 and recipe.weighted_sampling > 0,
    }  # fmt: skip
    for problem, found_here in problems.items():
        if found_here:
            raise UsageError(problem)


def check_system_args(recipe: Recipe) -> None:
    """Raises UsageError for an argument that the system does not know, or a value it refuses."""
    known = models.known_arguments(recipe.system)
    if recipe.system in classical.SYSTEMS:
        known = [*(name for name in known if name != "size"), *classical.FIT]  # --size gives it
    if unknown := [name for name in recipe.system_args if name not in known]:
        raise UsageError(
            f"--arg {unknown[0]}={recipe.system_args[unknown[0]]}: {recipe.system} has no argument "
            f"{unknown[0]!r}; known: {', '.join(known) or 'none'}"
        )
    if (size := recipe.system_args.get("size", recipe.size)) != recipe.size:
        raise UsageError(f"--arg size={size} contradicts --size {recipe.size}")
    args = {k: v for k, v in recipe.system_args.items() if k not in classical.FIT}
    try:
        outline = build_outline(
            lambda: models.build(recipe.system, num_classes=7, in_channels=recipe.channels, **args),
            MOST_TENSORS, f"a network with {MOST_TENSORS} tensors",
        )  # fmt: skip
        check_parameters(sum(value.numel() for value in outline.parameters()))
    except ValueError as error:
        words = ", ".join(f"{name}={value}" for name, value in args.items())
        raise UsageError(f"{recipe.system} ({words}): {error}") from error


def check_parameters(count: int) -> None:
    """Raises ValueError for more numbers than a network here may learn."""
    if count > MOST_PARAMETERS:
        raise ValueError(
            f"it would have {count:,} parameters; at most {MOST_PARAMETERS:,} are trained here: "
            "give smaller widths"
        )


def check_files(recipe: Recipe) -> None:
    """Raises FileNotFoundError for weights, a start or a teacher whose file is not there."""
    pretrained = "" if recipe.weights == "imagenet" else recipe.weights
    for name, paths in (
        ("init_from", [recipe.init_from]),
        ("weights", [pretrained]),
        ("teacher", recipe.teachers()),
    ):
        check_paths(option(name), filter(None, paths))


def check_all_files(recipes: Mapping[str, Recipe]) -> tuple[dict[str, Recipe], list[str]]:
    """(recipes whose files are there, sentences on the others). A lone recipe without its files
    raises FileNotFoundError; of several, those that lack some are left out."""
    ready, left_out = {}, []
    for name, recipe in recipes.items():
        try:
            check_files(recipe)
            ready[name] = recipe
        except FileNotFoundError as error:
            if len(recipes) == 1:
                raise
            left_out.append(f"{name} left out: {error}")
            print(left_out[-1], file=sys.stderr)
    return ready, left_out


def check_paths(what: str, paths: Iterable[str | Path]) -> tuple[Path, ...]:
    """The file of each path or name; one of the hub ("hf:owner/name") is fetched.

    Raises FileNotFoundError for the first without a file; says which files lie beside, and of a
    checkpoint which names are known. Of the hub as `expression.hub`.
    """
    return tuple(checked_path(what, Path(path)) for path in paths)


def checked_path(what: str, path: Path) -> Path:
    try:
        return resolve_checkpoint(path)
    except FileNotFoundError:
        if str(path).startswith(HUB_PREFIX):
            raise
    beside = [p.name for p in whole_files(path.parent, f"*{path.suffix or '.safetensors'}")]
    there = [f"{path.parent} has {', '.join(beside)}"] if beside else []
    if path.suffix in ("", ".safetensors"):  # it may be meant as a network's name
        there.append(known_names())
    told = "; ".join(there) or f"none in {path.parent}"
    raise FileNotFoundError(f"{what} {path}: no such file; {told}")


def check_device(name: str) -> torch.device:
    """The device of that name. Raises UsageError for one that torch or this machine lacks."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device {name} cannot be used here: {reason}") from error
    return device


def without_learning(recipe: Recipe, default: Recipe) -> Recipe:
    """`recipe` with the settings of `default` where a system without epochs has no use for one."""
    used = {f.name for kind in (Network, Pictures) for f in fields(kind)} - {"progressive_sizes"}
    return replace(default, **{name: getattr(recipe, name) for name in used})


def option(name: str) -> str:
    return "--" + name.replace("_", "-")
