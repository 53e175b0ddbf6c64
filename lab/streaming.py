"""A data set that is read from Parquet files as a stream: train anew in each epoch, never whole.

Why: for a set that fits neither into memory nor, of a hub, onto the disk. Validation and test are
of ordinary size: they are read once and decoded once, as those of every other set.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from expression.files import shown
from expression.quiet_decoders import quiet_libtiff, quiet_pillow
from hf_collate import Batches, Decoded, decode
from lab.class_names import class_permutation
from lab.data import Faces, check_name, preprocess, report_duplicates
from lab.datasets import short_name
from lab.datasets.parquet_stream import Rows, open_parquet
from lab.recipe import Recipe
from lab.stream_batches import BUFFER, StreamedBatches
from lab.stream_survey import Survey, decoded_picture, survey, usable_rows

__all__ = ["Streamed", "read_streamed"]


@dataclass(frozen=True)
class Streamed(Faces):
    """A data set whose `splits` are validation and test; train is `rows`, a stream."""

    streamed: ClassVar[bool] = True

    rows: Rows
    survey: Survey
    names: tuple[str, ...]
    order: torch.Tensor = field(compare=False)  # for each class in the files, its index in `names`

    @property
    def class_names(self) -> list[str]:
        return list(self.names)

    def pictures(self) -> Iterator[Image.Image]:
        return (decoded_picture(content) for content, _ in self.train_rows())

    @property
    def in_train(self) -> dict[str, np.ndarray]:
        return self.survey.in_train

    def train_rows(self) -> Any:
        """(encoded picture, label in the files) of train, in the order of the files."""
        broken = frozenset(map(bytes, self.survey.broken))
        return usable_rows(self.rows.in_order(), len(self.rows.class_names), broken)

    def labels(self, split: str) -> torch.Tensor:
        if split == "train":
            return self.order[torch.from_numpy(self.survey.labels.astype(np.int64))]
        return self.order[torch.tensor(self.splits[split]["label"][:])]

    def vote_counts(self, split: str) -> None:
        return None

    def decoded(self, preprocess: Any) -> dict[str, Decoded]:
        """Validation and test alone."""
        found = {split: decode(rows, preprocess) for split, rows in self.splits.items()}
        return {
            split: replace(rows, labels=self.order[rows.labels], class_names=self.names)
            for split, rows in found.items()
        }

    def with_classes(
        self, class_names: Sequence[str], model: str, *, subset: bool = False
    ) -> "Streamed":
        order = class_permutation(class_names, self.class_names, subset=subset, model=model)
        return replace(self, names=tuple(class_names), order=torch.tensor(order)[self.order])

    def batches(self, recipe: Recipe, seed: int, device: torch.device) -> dict[str, Batches]:
        loaders: dict[str, Any] = super().batches(recipe, seed, device)
        loaders["train"] = StreamedBatches(
            self.rows, self.survey, preprocess(recipe), recipe.batch_size,
            buffer=recipe.shuffle_buffer or BUFFER, augment=recipe.augment, device=device,
            seed=seed, order=self.order, num_classes=len(self.names),
        )  # fmt: skip
        return loaders


def read_streamed(where: str, name: str | None = None, strict: bool = False) -> Streamed:
    """A folder of Parquet files or a hub's data set as a stream, after one pass over it.

    Prints the report and how many faces there are. Raises as `open_parquet` and `survey` do.
    """
    if name:
        check_name(name)
    quiet_pillow()
    quiet_libtiff()
    rows, key = open_parquet(where)
    print(f"Data: {shown(where)}, streamed", flush=True)
    found, held, notes = survey(rows, key, strict)
    for line in notes:
        print(shown(line))
    train = rows["train"]
    faces = Streamed(held, name or short_name(where), found.fingerprint, train, found,
                     tuple(train.class_names), torch.arange(len(train.class_names)))  # fmt: skip
    counts = np.bincount(found.labels, minlength=len(faces.names))
    told = ", ".join(f"{name} {n:,}" for name, n in zip(faces.names, counts, strict=True))
    print(f"train {len(found.labels):,} faces in {train.files} files ({shown(told)}), "
          + ", ".join(f"{split} {len(r):,}" for split, r in held.items()))  # fmt: skip
    report_duplicates(faces)
    return faces
