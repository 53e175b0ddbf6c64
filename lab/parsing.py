"""Words of a command line → a command's options and the checked recipes that they mean.

The defaults of `train` and `flagship` are those of the system that is named, so that
`train SYSTEM --help` shows what would be trained and only given options change it.
"""

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import tyro

from augment import Augment
from lab.checks import UsageError, check_recipe, option, without_learning
from lab.options import COMMANDS, GROUPS, Augmentation, Command, Flagship, Settings, Train
from lab.recipe import RENAMED, Recipe
from lab.recipes import RECIPES, quick
from lab.recording import changed_words

__all__ = ["default_recipe", "parse"]


def parse(words: Sequence[str], prog: str = "experiments.py") -> tuple[Command, dict[str, Recipe]]:
    """The command that `words` mean and, for `train` and `flagship`, the recipe of each system.

    `--all` alone means `train --all`. Options that recorded commands carry under earlier names
    are known. Ends the program with help, or with code 2 and what is wrong, as tyro does.
    Raises UsageError for systems or settings that cannot be.
    """
    words = [current_name(word) for word in words]
    if "--all" in words and words[0].startswith("-"):
        words.insert(0, "train")
    if {"-h", "--help"} & set(words) and (names := named_systems(words)):
        recipe = default_recipe(names[0], "--quick" in words)
        read_words([words[0], "--help"], prog, recipe)
    command = read_words(words, prog, None)
    if not isinstance(command, Train | Flagship):
        return command, {}
    chosen = systems_of(command)
    for name, least in (("seed", 0), ("seeds", 1)):
        if (value := getattr(command, name)) < least:
            raise UsageError(f"--{name} is {value}; it must be {least} or more")
    recipes = {}
    for name in chosen:
        usual = default_recipe(name, command.quick)
        own = read_words(words, prog, usual)
        recipes[name] = recipe_from(own, usual, alone=len(chosen) == 1)
    return command, recipes


def current_name(word: str) -> str:
    """An option of an older, recorded command under the name of today; other words unchanged."""
    name, *value = word.split("=", 1)
    renamed = {option(old): option(new) for old, new in RENAMED.items()}
    return "=".join([renamed.get(name, name), *value])


def read_words(words: Sequence[str], prog: str, recipe: Recipe | None) -> Any:
    """One of the commands; `recipe` gives the defaults of its settings."""
    groups = grouped(recipe) if recipe else {}
    defaults = {
        name: kind(**groups) if issubclass(kind, Settings) else kind()
        for name, kind in COMMANDS.items()
    }
    about = {name: f"{kind.__doc__}" for name, kind in COMMANDS.items()}
    if recipe is None and len(words) > 1:
        about["train"] += " A system's own settings: `train SYSTEM --help`."
    kinds = tyro.extras.subcommand_type_from_defaults(defaults, about, prefix_names=False)
    return tyro.cli(
        kinds,
        args=list(words),
        prog=prog,
        description="Train, evaluate, explain and compare expression networks. "
        "`COMMAND --help` lists a command's options, `train SYSTEM --help` a system's settings.",
        config=(tyro.conf.OmitArgPrefixes,),
    )


def named_systems(words: Sequence[str]) -> list[str]:
    """The known systems among the words behind `train` or `flagship`."""
    if not words or words[0] not in ("train", "flagship"):
        return []
    names = [word for word in words[1:] if word in RECIPES]
    return names or ([Flagship.system] if words[0] == "flagship" else [])


def systems_of(command: Train | Flagship) -> list[str]:
    """The systems to train. Raises UsageError when none, or an unknown one, is named."""
    if isinstance(command, Train):
        compared = [name for name, recipe in RECIPES.items() if not recipe.fine_tune]
        names = compared if command.all else list(dict.fromkeys(command.systems))
    else:
        names = [command.system]
    unknown = [name for name in names if name not in RECIPES]
    if not names or unknown:
        found = f"unknown: {', '.join(unknown)}" if unknown else "none named"
        raise UsageError(f"which system? {found}; known: {', '.join(RECIPES)}, or --all")
    return names


def default_recipe(name: str, short: bool) -> Recipe:
    """The published settings of a system, or with `short` those of `--quick`."""
    return quick(RECIPES[name]) if short else RECIPES[name]


def grouped(recipe: Recipe) -> dict[str, Any]:
    """A recipe's fields in the groups of `Settings`."""
    augment = vars(recipe.augment or Augment())
    groups: dict[str, Any] = {
        "augmentation": Augmentation(
            **augment, augment=recipe.augment is not None,
            final_unaugmented_epochs=recipe.final_unaugmented_epochs,
        )
    }  # fmt: skip
    for place in fields(Settings):
        if place.type in GROUPS:
            kind = place.type
            groups[place.name] = kind(**{f.name: getattr(recipe, f.name) for f in fields(kind)})
    return groups


def recipe_from(command: Settings, usual: Recipe, alone: bool) -> Recipe:
    """The recipe that the options give, checked; `usual` are the system's own settings.

    A system without epochs has no use for most settings: they are left out when several systems
    train, and a UsageError when it is `alone`.
    """
    given = {
        f.name: getattr(group, f.name)
        for place in fields(command)
        if is_dataclass(group := getattr(command, place.name)) and not isinstance(group, Augment)
        for f in fields(group)
    }
    changes = command.augmentation
    augment = Augment(**{f.name: getattr(changes, f.name) for f in fields(Augment)})
    if not changes.augment and augment != (usual.augment or Augment()):
        raise UsageError("--no-augment contradicts settings of the augmentation; give one of them")
    follows = {"size": given["size"]} if usual.system == "vit_tiny" else {}
    args = {**usual.system_args, **follows, **system_args(command.arg)}
    given |= {"system_args": args, "augment": augment if changes.augment else None,
              "final_unaugmented_epochs": changes.final_unaugmented_epochs}  # fmt: skip
    try:
        recipe = replace(usual, **given)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not usual.epochs:
        fitted = without_learning(recipe, usual)
        if alone and (words := changed_words(recipe, fitted)):
            raise UsageError(f"{usual.system} is fitted without epochs: no use for {words[0]}")
        recipe = fitted
    check_recipe(recipe)
    return recipe


def system_args(words: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE words by name; a value that is JSON (3, 0.1, [8, 16], null) is that value."""
    args = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise UsageError(f"--arg {word}: NAME=VALUE is wanted, such as stem=3x3")
        try:
            args[key] = json.loads(value)
        except json.JSONDecodeError:
            args[key] = value
    return args
