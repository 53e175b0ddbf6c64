"""A data set as the laboratory uses it: read or unpacked, decoded once, in batches."""

import json
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from faces import measure_crop
from hf_collate import Batches, Decoded, Preprocess, decode
from lab import duplicates
from lab.recipes import Recipe

if TYPE_CHECKING:
    from datasets import DatasetDict

__all__ = ["Faces", "Packed", "pack", "read"]


@dataclass(frozen=True)
class Faces:
    """One data set: its splits, its name in file names, and what identifies it."""

    splits: "DatasetDict"
    name: str
    fingerprint: str

    @property
    def class_names(self) -> list[str]:
        return list(self.splits["train"].features["label"].names)

    @cached_property
    def crop(self) -> dict[str, Any]:
        """Where the detector finds the face in training pictures, for the checkpoint's card."""
        return measure_crop(row["image"] for row in self.splits["train"]).settings()

    @cached_property
    def in_train(self) -> dict[str, np.ndarray]:
        """{split: bool (n,)}: which validation and test faces are training faces too."""
        cache = Path(".expression_cache") / f"in_train-{self.fingerprint}.npz"
        return duplicates.in_train(self.splits, cache)

    def labels(self, split: str) -> torch.Tensor:
        """Class indices (n,) int64 of a split."""
        return torch.tensor(self.splits[split]["label"][:])

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


@dataclass(frozen=True)
class Packed(Faces):
    """A data set from one file of gray pictures, made by `pack`: needs no `datasets`.

    `splits` holds Decoded splits at the side that was packed; everything that identifies the
    set and its crop were written down when it was packed.
    """

    packed_crop: dict[str, Any] = field(default_factory=dict)

    @property
    def class_names(self) -> list[str]:
        return list(self.splits["train"].class_names)

    @property
    def crop(self) -> dict[str, Any]:
        return self.packed_crop

    @cached_property
    def in_train(self) -> dict[str, np.ndarray]:
        return duplicates.in_train(self.splits)

    def labels(self, split: str) -> torch.Tensor:
        return self.splits[split].labels

    def decoded(self, preprocess: Preprocess) -> dict[str, Decoded]:
        """As from the pictures themselves, pixel for pixel, where those had the packed side."""
        found = {}
        for split, rows in self.splits.items():
            pictures = (Image.fromarray(x) for x in rows.pixels[:, 0].numpy())
            pixels = torch.from_numpy(np.stack([preprocess.pixels(p) for p in pictures]))
            found[split] = Decoded(pixels, rows.labels, rows.class_names, preprocess)
        return found


def pack(faces: Faces, path: Path, side: int = 48) -> Path:
    """All of a data set in one compressed file: gray uint8 pictures (n, side, side), labels.

    For a machine without `datasets`, or with a slow disk: FER2013 takes 75 MB.
    """
    arrays = {}
    for split, rows in faces.decoded(Preprocess(side, "L")).items():
        arrays[f"{split}_pixels"] = rows.pixels[:, 0].numpy()
        arrays[f"{split}_labels"] = rows.labels.numpy().astype(np.uint8)
    about = {"name": faces.name, "fingerprint": faces.fingerprint, "crop": faces.crop,
             "class_names": faces.class_names}  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".tmp.npz")
    np.savez_compressed(part, about=np.array(json.dumps(about)), **arrays)
    return part.replace(path)


def unpack(path: Path) -> Packed:
    """The data set in a file that `pack` wrote. Raises ValueError for another file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(file["about"].item())
            names = tuple(about["class_names"])
            splits = {}
            for split in ("train", "validation", "test"):
                pixels = torch.from_numpy(file[f"{split}_pixels"])[:, None]  # unpacked each time
                labels = torch.from_numpy(file[f"{split}_labels"]).long()
                splits[split] = Decoded(pixels, labels, names, Preprocess(pixels.shape[-1], "L"))
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is not a packed data set ({error}); make one with "
            "`python experiments.py pack --data fer2013`"
        ) from error
    return Packed(splits, about["name"], about["fingerprint"], about["crop"])


def some(count: int, limit: int) -> torch.Tensor:
    """`limit` of `count` rows, the same ones for every system, in the order of the data."""
    rows = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:limit]
    return rows.sort().values


def preprocess(recipe: Recipe) -> Preprocess:
    return Preprocess(recipe.size, recipe.mode, recipe.channels, recipe.mean, recipe.std)


def read(where: str | None, name: str | None = None, classes: int = 0, strict: bool = False,
         ) -> Faces:  # fmt: skip
    """Load a source, or a packed file (.npz); `classes=4` merges FER2013's seven.

    Raises ValueError for another number, or as `sources.load` does.
    """
    if where and where.endswith(".npz"):
        if classes or name:
            raise ValueError(f"{where} is packed: merge classes or name the data before packing")
        return told(unpack(Path(where)))
    import sources
    from sources import fer2013

    splits = sources.load(where, strict=strict)
    for line in sources.report(splits):
        print(line)
    name = name or sources.slug(splits)
    if classes:
        if classes != 4:
            raise ValueError(f"--classes {classes}: the merge that is known makes 4 of 7 classes")
        splits, name = fer2013.merge(splits), f"{name}_4"
    print(sources.summary(splits))
    return told(Faces(splits, name, sources.fingerprint(splits)))


def told(faces: Faces) -> Faces:
    """The same data set, after saying how many of its faces are in train too."""
    for line in duplicates.report(faces.in_train):
        print(line)
    return faces
