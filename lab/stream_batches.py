"""Batches of a training split that is read from its files anew in each epoch.

Why: `hf_collate.Batches` takes pictures by their number, from one decoded file. Of a streamed set
nothing is kept: rows come in the order of the files, go through a buffer from which one is drawn
at random for each that enters, and are decoded for the batch that they are in.

`datasets` has such a buffer too (`IterableDataset.shuffle`). It is not used, because its order
changed between versions, and because version 5.2 gives the rows of several files more slowly than
they are decoded.
"""

import math
import random
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from expression.preprocessing import Preprocess
from hf_collate import Blend, Changes, normalise
from lab.datasets.parquet_stream import Rows
from lab.processes import Part, epoch_seed
from lab.stream_survey import Survey, decoded_picture, usable_rows

__all__ = ["BUFFER", "StreamedBatches", "shuffled"]

T = TypeVar("T")
BUFFER = 10_000  # rows that are shuffled together, encoded, where the recipe does not say


def shuffled(rows: Iterable[T], size: int, seed: int) -> Iterator[T]:
    """Each row once, drawn at random from a buffer of `size` rows, which the next one refills."""
    draw, buffer = random.Random(seed).random, list[T]()
    for row in rows:
        if len(buffer) < size:
            buffer.append(row)
            continue
        place = int(draw() * size)
        yield buffer[place]
        buffer[place] = row
    keys = [draw() for _ in buffer]
    yield from (buffer[place] for place in sorted(range(len(buffer)), key=keys.__getitem__))


@dataclass
class StreamedBatches:
    """Iterate over a streamed training split in batches, as over `hf_collate.Batches`.

    Yields images (n, channels, size, size) float32, normalised, and labels (n,) int64, both on
    `device`. Each picture comes once an epoch; the order and the changes follow from `seed`,
    `epoch` and the number of processes. With `part` a process reads files of its own: of N files
    the k-th of P processes reads k, k + P, …; all take equally many steps, and each spreads its
    pictures evenly over them. `order` gives, for each class in the files, its label here.
    """

    data: Rows
    survey: Survey
    preprocess: Preprocess
    batch_size: int
    buffer: int = BUFFER
    augment: Changes | None = None
    device: torch.device | str = "cpu"
    seed: int = 0
    mix: Blend | None = None
    order: Tensor | None = None
    num_classes: int = 0
    epoch: int = 0
    part: Part | None = None

    def __post_init__(self) -> None:
        self.device = torch.device(self.device)
        self.num_classes = self.num_classes or len(self.data.class_names)
        if self.order is None:
            self.order = torch.arange(self.num_classes)
        self.rows = torch.arange(len(self.survey.labels))
        self.labels = self.order[torch.from_numpy(self.survey.labels.astype(np.int64))]
        count = self.part.count if self.part else 1
        if count > self.data.files:
            raise ValueError(
                f"{self.data.where} has {self.data.files} Parquet files, and each of {count} "
                "processes needs one of its own: start fewer processes, or write more files"
            )
        if count > 1 and len(self.mine()) < 2 * len(self):
            raise ValueError(
                f"{self.data.where}: the files of process {self.part and self.part.rank} have "
                f"{len(self.mine()):,} pictures for {len(self):,} steps, and each step needs two: "
                "write files of equal size, or give a larger --batch-size"
            )

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def files(self) -> list[int]:
        """The files that this process reads."""
        first, step = (self.part.rank, self.part.count) if self.part else (0, 1)
        return list(range(first, self.data.files, step))

    def mine(self) -> range:
        """One number for each picture of this process."""
        return range(int(self.survey.kept[self.files()].sum()))

    def sizes(self) -> list[int]:
        """How many pictures of this process are in each batch."""
        count = len(self.mine())
        if not self.part:
            return [min(self.batch_size, count - k) for k in range(0, count, self.batch_size)]
        steps = len(self)
        return [count * (k + 1) // steps - count * k // steps for k in range(steps)]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        seed = self.seed * 1_000_003 + self.epoch
        if self.part:
            seed = epoch_seed(self.seed, self.epoch, self.part.rank)
        generator = torch.Generator().manual_seed(seed)
        self.epoch += 1
        for pixels, labels in ahead(self.decoded(seed)):
            if self.part:
                self.part.counted = True  # no batch is taken by several processes
            yield self.prepared(pixels.to(self.device), labels.to(self.device), generator)

    def prepared(
        self, pixels: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Decoded pictures as the network sees them, in this epoch."""
        images = pixels.float() / 255
        if self.augment is not None:
            images = self.augment(images, generator, slice(None), 0)
        if self.mix is not None:
            targets = F.one_hot(labels, self.num_classes).float()
            images, labels = self.mix(images, targets, generator)
        return normalise(images, self.preprocess.mean, self.preprocess.std), labels

    def decoded(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of pixels uint8 (n, bands, size, size) and labels (n,) int64, shuffled."""
        assert self.order is not None
        files, broken = self.files(), frozenset(map(bytes, self.survey.broken))
        random.Random(seed).shuffle(files)
        found = usable_rows(self.data.in_turns(files), len(self.data.class_names), broken)
        rows = shuffled(found, self.buffer, seed)
        for size in self.sizes():
            batch = list(islice(rows, size))
            if len(batch) < size:
                raise ValueError(f"{self.data.where}: its files changed while they were read")
            pixels = [self.preprocess.pixels(decoded_picture(content)) for content, _ in batch]
            labels = torch.tensor([label for _, label in batch])
            yield torch.from_numpy(np.stack(pixels)), self.order[labels]


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, the next one made in a thread while one is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item
