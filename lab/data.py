"""A data set as the laboratory uses it: read or unpacked, decoded once, in batches."""

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from PIL import Image

from expression.face_detector import measure_crop
from expression.files import atomic_write, shown, shown_lines
from expression.pictures import as_picture
from expression.preprocessing import Preprocess
from hf_collate import Batches, Decoded, decode
from lab import duplicates
from lab.class_names import class_permutation
from lab.recipe import Recipe
from lab.votes import vote_shares

if TYPE_CHECKING:
    from datasets import DatasetDict

__all__ = ["Faces", "Packed", "check_name", "pack", "read"]


def check_name(name: str) -> None:
    """Raises ValueError for a name that cannot stand in the names of files and folders: "a/b" would
    be a folder that nobody looks into, "x[1]" a pattern."""
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise ValueError(
            f"{name!r} cannot be a name: letters, digits and . _ + - are allowed, and . + - not at "
            "its beginning"
        )


@dataclass(frozen=True)
class Faces:
    """One data set: its splits, its name in file names, and what identifies it."""

    splits: "DatasetDict"
    name: str
    fingerprint: str
    cleaned: str = field(default="", kw_only=True)  # SHA-256 of the file that replaced labels
    merged: bool = field(default=False, kw_only=True)  # whether FER2013's classes were merged to 4
    streamed: ClassVar[bool] = False  # whether train is read anew in each epoch

    def __post_init__(self) -> None:
        check_name(self.name)

    @property
    def class_names(self) -> list[str]:
        return list(self.splits["train"].features["label"].names)

    def pictures(self) -> Iterator[Image.Image]:
        """Training pictures as the files have them; of packed data, which have none, nothing."""
        return (as_picture(row["image"]) for row in self.splits["train"])

    @cached_property
    def crop(self) -> dict[str, Any]:
        """Where the detector finds the face in training pictures, for the checkpoint's card."""
        return measure_crop(self.pictures()).settings()

    @cached_property
    def in_train(self) -> dict[str, np.ndarray]:
        """{split: bool (n,)}: which validation and test faces are training faces too."""
        cache = Path(".expression_cache") / f"in_train-{self.fingerprint}.npz"
        return duplicates.in_train(self.splits, cache)

    def labels(self, split: str) -> torch.Tensor:
        """Class indices (n,) int64 of a split."""
        return torch.tensor(self.splits[split]["label"][:])

    def vote_counts(self, split: str) -> tuple[torch.Tensor, tuple[str, ...]] | None:
        """A crowd's votes (N, k) uint8 of a split and what each column means; None without any."""
        if "votes" not in self.splits[split].column_names:
            return None
        from lab.datasets.ferplus import VOTE_NAMES

        votes = self.splits[split].with_format("numpy")["votes"][:]
        return torch.from_numpy(np.asarray(votes)).to(torch.uint8), VOTE_NAMES

    def votes(self, split: str) -> torch.Tensor:
        """The votes as probabilities (N, num_classes) over `class_names`, see `lab.votes`.

        A face without any has zeros. Raises ValueError where the data have no votes.
        """
        if (counts := self.vote_counts(split)) is None:
            raise ValueError(f"{self.name} has no votes; join FER+'s file with --votes PATH")
        return vote_shares(*counts, self.class_names)

    def identity(self, votes: bool) -> dict[str, str]:
        """Name and fingerprint, for cards; the SHA-256 of a file of cleaned labels, where one
        replaced some; with `votes` also a fingerprint of train's votes."""
        told = {"name": self.name, "fingerprint": self.fingerprint}
        if self.cleaned:
            told["cleaned_labels"] = self.cleaned
        if votes and (counts := self.vote_counts("train")) is not None:
            told["votes"] = hashlib.sha256(counts[0].numpy().tobytes()).hexdigest()[:16]
        return told

    def decoded(self, preprocess: Preprocess) -> dict[str, Decoded]:
        return {split: decode(rows, preprocess) for split, rows in self.splits.items()}

    def with_classes(
        self, class_names: Sequence[str], model: str, *, subset: bool = False
    ) -> "Faces":
        """The same faces, labelled with the classes of the network called `model`, in its order.

        Raises ValueError where the classes do not fit, see `lab.class_names.class_permutation`.
        """
        order = class_permutation(class_names, self.class_names, subset=subset, model=model)
        if list(class_names) == self.class_names:
            return self
        return Relabelled(
            self.splits, self.name, self.fingerprint, self, tuple(class_names),
            torch.tensor(order), cleaned=self.cleaned, merged=self.merged,
        )  # fmt: skip

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
                indices=subset_indices(len(rows), limit) if limit else None,
            )
        return loaders


@dataclass(frozen=True)
class Packed(Faces):
    """A data set from one file of gray pictures, made by `pack`: needs no `datasets`.

    `splits` holds Decoded splits at the side that was packed; everything that identifies the
    set and its crop were written down when it was packed.
    """

    packed_crop: dict[str, Any] = field(default_factory=dict)
    packed_votes: dict[str, torch.Tensor] = field(default_factory=dict)  # by split, where known
    vote_names: tuple[str, ...] = ()

    @property
    def class_names(self) -> list[str]:
        return list(self.splits["train"].class_names)

    def pictures(self) -> Iterator[Image.Image]:
        return iter(())

    @property
    def crop(self) -> dict[str, Any]:
        return self.packed_crop

    @cached_property
    def in_train(self) -> dict[str, np.ndarray]:
        return duplicates.in_train(self.splits)

    def labels(self, split: str) -> torch.Tensor:
        return self.splits[split].labels

    def vote_counts(self, split: str) -> tuple[torch.Tensor, tuple[str, ...]] | None:
        return (self.packed_votes[split], self.vote_names) if self.packed_votes else None

    def decoded(self, preprocess: Preprocess) -> dict[str, Decoded]:
        """As from the pictures themselves, pixel for pixel, where those had the packed side."""
        found = {}
        for split, rows in self.splits.items():
            pictures = (Image.fromarray(x) for x in rows.pixels[:, 0].numpy())
            pixels = torch.from_numpy(np.stack([preprocess.pixels(p) for p in pictures]))
            found[split] = Decoded(pixels, rows.labels, rows.class_names, preprocess)
        return found


@dataclass(frozen=True)
class Relabelled(Faces):
    """A data set under the class names of a network, made by `Faces.with_classes`.

    `splits` still holds the data set's own labels: read them through `labels` and `decoded`.
    """

    original: Faces
    names: tuple[str, ...]
    order: torch.Tensor  # for each class of the original, its index in `names`

    @property
    def class_names(self) -> list[str]:
        return list(self.names)

    def pictures(self) -> Iterator[Image.Image]:
        return self.original.pictures()

    @property
    def crop(self) -> dict[str, Any]:
        return self.original.crop

    @property
    def in_train(self) -> dict[str, np.ndarray]:
        return self.original.in_train

    def labels(self, split: str) -> torch.Tensor:
        return self.order[self.original.labels(split)]

    def vote_counts(self, split: str) -> tuple[torch.Tensor, tuple[str, ...]] | None:
        return self.original.vote_counts(split)

    def decoded(self, preprocess: Preprocess) -> dict[str, Decoded]:
        return {
            split: replace(rows, labels=self.order[rows.labels], class_names=self.names)
            for split, rows in self.original.decoded(preprocess).items()
        }


def pack(faces: Faces, path: Path, side: int = 48) -> Path:
    """All of a data set in one compressed file: gray uint8 pictures (n, side, side), labels,
    and the crowd's votes where the data have them.

    For a machine without `datasets`, or with a slow disk: FER2013 takes 75 MB.
    """
    arrays: dict[str, Any] = {}
    vote_names: tuple[str, ...] = ()
    for split, rows in faces.decoded(Preprocess(side, "L")).items():
        arrays[f"{split}_pixels"] = rows.pixels[:, 0].numpy()
        arrays[f"{split}_labels"] = rows.labels.numpy().astype(np.uint8)
        if (votes := faces.vote_counts(split)) is not None:
            arrays[f"{split}_votes"], vote_names = votes[0].numpy(), votes[1]
    about = {"name": faces.name, "fingerprint": faces.fingerprint, "crop": faces.crop,
             "class_names": faces.class_names, "vote_names": vote_names,
             "cleaned": faces.cleaned, "merged": faces.merged}  # fmt: skip
    with atomic_write(path) as file:
        np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)
    return path


def unpack(path: Path) -> Packed:
    """The data set in a file that `pack` wrote. Raises ValueError for another file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(file["about"].item())
            names = tuple(about["class_names"])
            splits, votes = {}, {}
            for split in ("train", "validation", "test"):
                pixels = torch.from_numpy(file[f"{split}_pixels"])[:, None]  # unpacked each time
                labels = torch.from_numpy(file[f"{split}_labels"]).long()
                splits[split] = Decoded(pixels, labels, names, Preprocess(pixels.shape[-1], "L"))
                if f"{split}_votes" in file:
                    votes[split] = torch.from_numpy(file[f"{split}_votes"])
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is not a packed data set ({error}); make one with "
            "`python experiments.py pack --data fer2013`"
        ) from error
    known = tuple(about.get("vote_names", ()))
    return Packed(splits, about["name"], about["fingerprint"], about["crop"], votes, known,
                  cleaned=about.get("cleaned", ""), merged=about.get("merged", False))  # fmt: skip


def subset_indices(count: int, limit: int) -> torch.Tensor:
    """`limit` of `count` rows, the same ones for every system, in the order of the data."""
    rows = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:limit]
    return rows.sort().values


def preprocess(recipe: Recipe) -> Preprocess:
    return Preprocess(recipe.size, recipe.mode, recipe.channels, recipe.mean, recipe.std)


def read(where: str | None, name: str | None = None, classes: int = 0, strict: bool = False,
         votes: str | Path | None = None, cleaned_labels: Path | None = None) -> Faces:  # fmt: skip
    """Load a source, a packed file (.npz) or shards; `classes=4` merges FER2013's seven.

    `votes` is FER+'s file, by path or address; its votes join FER2013's faces by row or by name,
    whichever fits, see `lab.datasets.ferplus.join_votes`. `cleaned_labels` is a file
    as `lab.label_noise` writes it: training labels are replaced by it, and the data are then
    called NAME_cleaned and have another fingerprint; validation and test stay as they are.

    Raises ValueError for another number, for a name that cannot stand in file names, for a file of
    cleaned labels that was made for other data, or as `lab.datasets.load` does.
    """
    if name:
        check_name(name)
    from lab import shards

    if where and where.endswith(".npz"):
        if classes or name or votes or cleaned_labels:
            raise ValueError(
                f"{where} is packed: merge classes, name the data, join votes and clean labels "
                "before packing"
            )
        return report_duplicates(unpack(Path(where)))
    if where and shards.is_sharded(where):
        if classes or name or votes or cleaned_labels:
            raise ValueError(f"{where} holds shards: merge classes, name the data, join votes and "
                             "clean labels before they are written")  # fmt: skip
        return report_duplicates(shards.read_shards(where, strict))
    from lab import datasets
    from lab.datasets import cleaned, fer2013

    if votes and classes:
        raise ValueError(f"the votes of {votes} are for seven classes, not --classes {classes}")
    splits = datasets.load(where, strict=strict, votes=votes, votes_by="either")
    if where:
        print(f"Data: {shown(datasets.origin(splits))}")
    digest = ""
    if cleaned_labels:
        splits = cleaned.replace_labels(splits, cleaned_labels)
        digest = hashlib.sha256(cleaned_labels.read_bytes()).hexdigest()
    for line in datasets.report(splits):
        print(shown(line))
    name = (name or datasets.slug(splits)) + ("_cleaned" if cleaned_labels else "")
    if classes:
        if classes != 4:
            raise ValueError(f"--classes {classes}: the merge that is known makes 4 of 7 classes")
        splits, name = fer2013.merge(splits), f"{name}_4"
    print(shown_lines(datasets.summary(splits)))
    mark = datasets.fingerprint(splits)
    return report_duplicates(Faces(splits, name, mark, cleaned=digest, merged=bool(classes)))


def report_duplicates(faces: Faces) -> Faces:
    """The same data set, after saying how many of its faces are in train too."""
    for line in duplicates.report(faces.in_train):
        print(line)
    return faces
