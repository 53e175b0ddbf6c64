"""Data that are never whole in memory: what cannot be done with them, said before they are read;
and where they are written.
"""

from collections.abc import Mapping
from pathlib import Path

from expression.preprocessing import Preprocess
from lab.checks import UsageError
from lab.data import Faces, pack
from lab.options import Command, Compare, Data, Evaluate, Pack, Publish, Train
from lab.recipe import Recipe
from lab.shards import is_sharded
from lab.svm_training import SYSTEMS as SVM_SYSTEMS

__all__ = ["check_large", "write_packed"]


def check_large(command: Command, recipes: Mapping[str, Recipe]) -> None:
    """Raises UsageError for a command, an option or a setting that needs more than a stream has."""
    if isinstance(command, Compare | Publish):
        return
    shards = command.data is not None and is_sharded(command.data)
    if isinstance(command, Pack) and command.mode == "RGB" and not command.shards:
        raise UsageError("--mode RGB needs --shards: one file holds gray pictures")
    if isinstance(command, Train) and command.also and shards:
        raise UsageError("--also joins sets in memory; it cannot go with shards as --data")
    if not command.streaming:
        return
    if not (isinstance(command, Train | Evaluate) or isinstance(command, Pack) and command.shards):
        raise UsageError("--streaming is for `train`, `evaluate` and `pack --shards`; leave it out")
    if shards:
        raise UsageError(f"{command.data} holds shards, which need no --streaming; leave it out")
    if not command.data:
        raise UsageError("--streaming needs --data: a folder of Parquet files, or a hub id")
    problems = options_without_use(command)
    for recipe in recipes.values():
        problems += settings_without_use(recipe)
    if problems:
        raise UsageError(f"--streaming cannot go with {problems[0]}")


def options_without_use(command: Data) -> list[str]:
    given = {
        "--votes: they are joined to FER2013 alone": command.votes,
        "--cleaned-labels, which name rows of the set read whole": command.cleaned_labels,
        "--classes, which is for FER2013": command.classes,
        "--also: a further data set is read whole": command.also,
    }
    return [problem for problem, value in given.items() if value]


def settings_without_use(recipe: Recipe) -> list[str]:
    stored = recipe.teacher and recipe.teacher_view == "stored"
    given = {
        f"{recipe.system}, which is fitted to all faces at once": recipe.system in SVM_SYSTEMS,
        f"--heads {' '.join(recipe.heads)}: a stream has labels alone": recipe.heads != ("label",),
        "--limit, nor with --quick: pictures at random from the whole set; for a trial, put a few "
        "of the Parquet files into another folder": recipe.limit,
        "--weighted-sampling, which takes pictures by their number; --class-weights can":
            recipe.weighted_sampling,
        "--average: BatchNorm's statistics are taken from pictures by their number":
            recipe.average,
        "a teacher's stored answers; add --teacher-view same": stored,
    }  # fmt: skip
    return [problem for problem, value in given.items() if value]


def write_packed(command: Pack, faces: Faces) -> Path:
    """Write a data set, decoded, to one file or to a folder of shards; returns where."""
    to, size = command.to, command.size
    if command.shards:
        from lab.shard_writer import write_shards  # brings `datasets`: packed files need none

        folder = to or Path(f"{faces.name}_shards")
        return write_shards(faces, folder, Preprocess(size, command.mode))
    return pack(faces, to or Path(f".expression_cache/{faces.name}.npz"), size)
