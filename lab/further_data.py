"""Several data sets in one training: one trunk, and a head for each source of labels.

Why: FER2013's labels, a crowd's votes and another collection's labels follow different habits.
Their faces side by side teach one trunk more than any of them alone, while a head for each keeps
one habit from spoiling the other: a face trains the heads that it has a target for.

The first data set (`--data`) gives the classes, the validation split that chooses the epoch, and
the name. Each further one (`--also NAME=PATH`) trains a head called NAME; with the name of a head
that is there already, such as `label=PATH`, it trains that one.
Source: written for this project.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_collate import Batches
from lab import data
from lab.class_names import canonical
from lab.data import Faces, preprocess
from lab.distillation import own_targets
from lab.heads import HEADS
from lab.recipe import Recipe

__all__ = [
    "all_heads",
    "data_name",
    "identities",
    "joined_loader",
    "joined_targets",
    "read_further",
    "split_name",
]


def read_further(words: Sequence[str], strict: bool = False) -> tuple[Faces, ...]:
    """The data sets that `--also` names, each as PATH or NAME=PATH, in that order.

    Raises ValueError for a name given twice, or as `lab.data.read` does.
    """
    found: list[Faces] = []
    for word in words:
        name, where = split_name(word)
        faces = data.read(where, name or None, strict=strict)
        if faces.name in (known.name for known in found):
            raise ValueError(
                f"two further data sets are called {faces.name}; give one another name: "
                f"--also NAME={where}"
            )
        found.append(faces)
    return tuple(found)


def split_name(word: str) -> tuple[str, str]:
    """(NAME, or "" where none is given; PATH) of a word of `--also`; a path may hold "=" itself."""
    name, equals, where = word.partition("=")
    return (name, where) if equals and not Path(word).exists() else ("", word)


def all_heads(recipe: Recipe, further: Sequence[Faces]) -> tuple[str, ...]:
    """The heads of a network: those of the recipe, then one for each further data set."""
    names = (faces.name for faces in further)
    return (*recipe.heads, *(name for name in names if name not in recipe.heads))


def data_name(faces: Faces, further: Sequence[Faces]) -> str:
    """What runs and files call the data of a training: fer2013, or fer2013+muxspace."""
    return "+".join(each.name for each in (faces, *further))


def check(recipe: Recipe, further: Sequence[Faces]) -> None:
    """Raises ValueError where a head cannot be trained by a data set's labels, or the recipe's
    weights are not one for each data set."""
    for faces in further:
        if faces.name in HEADS[1:]:
            raise ValueError(f"head {faces.name} learns from votes; --also gives labels alone")
    weights = recipe.further_weights
    if weights and len(weights) != len(further):
        raise ValueError(f"--further-weights has {len(weights)}, --also {len(further)} data sets")


def usable_rows(faces: Faces, class_names: Sequence[str], cap: int) -> tuple[Tensor, Tensor]:
    """(rows (n,) of train, their labels (n,) among `class_names`) of a further data set.

    Faces of classes that the training does not have are left out; with a `cap`, of a larger class
    `cap` faces stay, drawn once (seed 0). Raises ValueError where no face is left.
    """
    known = {canonical(name): index for index, name in enumerate(class_names)}
    order = torch.tensor([known.get(canonical(name), -1) for name in faces.class_names])
    labels = order[faces.labels("train")]
    generator = torch.Generator().manual_seed(0)
    kept = []
    for index in range(len(class_names)):
        rows = (labels == index).nonzero()[:, 0]
        if cap and len(rows) > cap:
            rows = rows[torch.randperm(len(rows), generator=generator)[:cap]]
        kept.append(rows)
    rows = torch.cat(kept).sort().values
    if not len(rows):
        raise ValueError(f"{faces.name} has none of the classes {', '.join(class_names)}")
    return rows, labels[rows]


def joined_loader(loader: Batches, recipe: Recipe, further: Sequence[Faces]) -> Batches:
    """The training loader with the faces of further data sets behind its own, shuffled together.

    Raises ValueError where names, weights or classes do not fit.
    """
    check(recipe, further)
    train = loader.data
    pixels, labels = [train.pixels], [train.labels]
    for faces in further:
        rows, told = usable_rows(faces, train.class_names, recipe.further_cap)
        decoded = faces.decoded(preprocess(recipe))["train"]
        pixels.append(decoded.pixels[rows])
        labels.append(told)
        left_out = len(decoded) - len(rows)
        print(f"also {faces.name}: {len(rows):,} training faces, {left_out:,} left out", flush=True)
    joined = replace(train, pixels=torch.cat(pixels), labels=torch.cat(labels))
    rows = torch.cat([loader.rows, torch.arange(len(train), len(joined))])
    return Batches(
        joined, loader.batch_size, shuffle=loader.shuffle, augment=loader.augment,
        device=loader.device, seed=loader.seed, indices=rows,
    )  # fmt: skip


def joined_targets(recipe: Recipe, faces: Faces, further: Sequence[Faces]) -> Tensor:
    """Targets (N, heads, num_classes) of the joined training split, before any teacher.

    A further data set's rows have their weight as mass at the head of their name, and zeros at
    the others.
    """
    heads = all_heads(recipe, further)
    own = own_targets(recipe, faces)
    classes = own.shape[2]
    parts = [torch.cat([own, own.new_zeros(len(own), len(heads) - own.shape[1], classes)], dim=1)]
    for place, other in enumerate(further):
        _, labels = usable_rows(other, faces.class_names, recipe.further_cap)
        weight = recipe.further_weights[place] if recipe.further_weights else 1.0
        rows = own.new_zeros(len(labels), len(heads), classes)
        rows[torch.arange(len(labels)), heads.index(other.name), labels] = weight
        parts.append(rows)
    return torch.cat(parts)


def identities(further: Sequence[Faces]) -> list[dict[str, Any]]:
    """Name, fingerprint and training faces of each further data set, for cards and settings."""
    return [
        {**faces.identity(votes=False), "train_faces": len(faces.labels("train"))}
        for faces in further
    ]
