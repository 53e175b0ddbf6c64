"""A data set as the laboratory uses it: read, merged, decoded once, in batches."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from datasets import DatasetDict

import sources
from faces import measure_crop
from hf_collate import Batches, Decoded, Preprocess, decode
from lab.recipes import Recipe
from sources import fer2013

__all__ = ["Faces", "read"]


@dataclass(frozen=True)
class Faces:
    """One data set: its splits, its name in file names, and what identifies it."""

    splits: DatasetDict
    name: str
    fingerprint: str

    @property
    def class_names(self) -> list[str]:
        return list(self.splits["train"].features["label"].names)

    @cached_property
    def crop(self) -> dict[str, Any]:
        """Where the detector finds the face in training pictures, for the checkpoint's card."""
        return measure_crop(row["image"] for row in self.splits["train"]).settings()

    def decoded(self, preprocess: Preprocess) -> dict[str, Decoded]:
        return {split: decode(rows, preprocess) for split, rows in self.splits.items()}

    def batches(self, recipe: Recipe, seed: int, device: torch.device) -> dict[str, Batches]:
        """Loaders of train (shuffled, augmented), validation and test for a recipe."""
        decoded = self.decoded(preprocess(recipe))
        loaders = {}
        for split, rows in decoded.items():
            train = split == "train"
            limit = recipe.limit if train else recipe.limit_eval
            loaders[split] = Batches(
                rows,
                recipe.batch_size if train else max(128, recipe.batch_size),
                shuffle=train,
                seed=seed,
                augment=recipe.augment if train else None,
                device=device,
                indices=some(len(rows), limit) if limit else None,
            )
        return loaders


def some(count: int, limit: int) -> torch.Tensor:
    """`limit` of `count` rows, the same ones for every system, in the order of the data."""
    rows = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:limit]
    return rows.sort().values


def preprocess(recipe: Recipe) -> Preprocess:
    return Preprocess(recipe.size, recipe.mode, recipe.channels, recipe.mean, recipe.std)


def read(where: str | None, name: str | None = None, classes: int = 0, strict: bool = False,
         ) -> Faces:  # fmt: skip
    """Load a source; `classes=4` merges FER2013's seven.

    Raises ValueError for another number, or as `sources.load` does.
    """
    splits = sources.load(where, strict=strict)
    for line in sources.report(splits):
        print(line)
    name = name or sources.slug(splits)
    if classes:
        if classes != 4:
            raise ValueError(f"--classes {classes}: the merge that is known makes 4 of 7 classes")
        splits, name = fer2013.merge(splits), f"{name}_4"
    print(sources.summary(splits))
    return Faces(splits, name, sources.fingerprint(splits))
