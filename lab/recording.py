"""The command that a run's card and results keep: what makes the same run again."""

import json
import shlex
from pathlib import Path

from augment import Augment
from expression.file_kinds import is_url
from lab.checks import option
from lab.further_data import split_name
from lab.options import Data, Settings
from lab.recipe import Recipe

__all__ = ["changed_words", "data_words", "record_command"]


def changed_words(recipe: Recipe, usual: Recipe) -> list[str]:
    """The options, quoted for a shell, that make `recipe` out of `usual`."""
    now, before = ({**vars(r), **vars(r.augment or Augment())} for r in (recipe, usual))
    now["augment"], before["augment"] = recipe.augment is not None, usual.augment is not None
    words = []
    for name, value in now.items():
        if value == before[name] or name == "system_args":
            continue
        if isinstance(value, bool):
            words.append(option(name) if value else option("no_" + name))
        elif name in ("init_from", "weights", "teacher"):
            words.append(f"{option(name)} {shlex.quote(','.join(map(public, value.split(','))))}")
        else:
            values = value if isinstance(value, tuple) else (value,)
            words.append(" ".join([option(name), *(shlex.quote(str(v)) for v in values)]))
    for name, value in recipe.system_args.items():
        derived = recipe.system == "vit_tiny" and name == "size"
        if value != usual.system_args.get(name) and not derived:
            text = value if isinstance(value, str) and not is_json(value) else json.dumps(value)
            words.append(f"--arg {shlex.quote(f'{name}={text}')}")
    return words


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def public(path: str | Path) -> str:
    """A path without folders of this machine: relative to this one, or its last part; "" stays."""
    if not str(path):
        return ""
    path, here = Path(path), Path.cwd()
    if path.is_absolute() and path.is_relative_to(here):
        path = path.relative_to(here)
    return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()


def public_data(where: str) -> str:
    """A data set's path by its last part; a hub id, or a kind such as synthetic, as it is."""
    return Path(where).name if Path(where).exists() else where


def data_words(command: Data) -> list[str]:
    """The options that name the data, quoted for a shell, without folders of this machine."""
    words = []
    if command.data:
        words.append(f"--data {shlex.quote(public_data(command.data))}")
    if command.streaming:
        words.append("--streaming")
    if command.name:
        words.append(f"--name {shlex.quote(command.name)}")
    if command.classes:
        words.append(f"--classes {command.classes}")
    if command.votes:
        votes = command.votes if is_url(command.votes) else Path(command.votes).name
        words.append(f"--votes {shlex.quote(votes)}")
    for further in command.also:
        name, where = split_name(further)
        told = f"{name}={public_data(where)}" if name else public_data(where)
        words.append(f"--also {shlex.quote(told)}")
    if command.cleaned_labels:
        words.append(f"--cleaned-labels {shlex.quote(public(command.cleaned_labels))}")
    return words


def record_command(name: str, recipe: Recipe, usual: Recipe, command: Settings, seed: int) -> str:
    """The command that makes a run again; `usual` is the system's own recipe.

    It runs from the repository. Data, votes and files outside it are named by their last part,
    without folders of the machine: put them, or a link to them, beside `experiments.py` under
    that name (`ln -s /path/to/fer2013 fer2013`). A hub id stays what it is. `--out`, `--device`
    and `--resume` are not part of it: they do not change what is learnt.
    """
    words = ["python experiments.py train", name, *data_words(command)]
    words += [flag for flag, on in (("--strict", command.strict), ("--quick", command.quick),
                                    ("--final", command.final)) if on]  # fmt: skip
    if seed:
        words.append(f"--seed {seed}")
    return " ".join(words + changed_words(recipe, usual))
