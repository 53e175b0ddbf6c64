"""A data set decoded once, in shards: NumPy files of uint8 pictures that are mapped, not read.

Why: the file that `hf_collate.decode` keeps is one, is made from a set that is at hand, and is read
whole at each start for its checksum. Shards are made once, from a stream too, copied like any
folder, and mapped: memory holds the pages in use, and a start reads headers alone. Pictures are
taken by their number, so order, processes and figures are those of a set that is read whole.

    shards.json   train-00000-of-00004.npy …   train-labels.npy   validation-in_train.npy …

Each .npy file, (n, bands, size, size) uint8 of pictures, is what `numpy.load` reads, and has its
SHA-256 beside it (`expression.kept_files`). `lab.shard_writer` makes the folder. Reading it needs
no `datasets`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expression.files import shown
from expression.kept_files import is_whole
from expression.preprocessing import Preprocess
from hf_collate import Decoded
from lab.data import Packed

__all__ = ["ABOUT", "BLOCK", "Sharded", "ShardedPixels", "block_order", "is_sharded", "read_shards",
           "rule_of", "shard_names"]  # fmt: skip

ABOUT = "shards.json"
BLOCK = 256  # neighbours in a file that stay together in `block_order`
SPLITS = ("train", "validation", "test")


class ShardedPixels:
    """The pictures of a split, uint8 (N, bands, size, size), in several mapped files.

    Indexed as a tensor by rows: `pixels[rows]` is a tensor in memory.
    """

    def __init__(self, files: Sequence[np.ndarray]) -> None:
        self.files = files
        self.starts = np.cumsum([0, *map(len, files)])
        self.shape = (int(self.starts[-1]), *files[0].shape[1:])
        self.nbytes = sum(file.nbytes for file in files)
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Tensor:
        if isinstance(index, tuple):
            return self[index[0]][(slice(None), *index[1:])]
        if isinstance(index, slice):
            index = range(*index.indices(len(self)))
        rows = torch.as_tensor(index, dtype=torch.int64).numpy()
        found = np.empty((len(rows), *self.shape[1:]), np.uint8)
        file_of = np.searchsorted(self.starts, rows, "right") - 1
        for file in np.unique(file_of):
            here = file_of == file
            found[here] = self.files[file][rows[here] - self.starts[file]]
        return torch.from_numpy(found)

    def __iter__(self) -> Iterator[Tensor]:
        for file in self.files:
            yield from (torch.from_numpy(pixels) for pixels in file)

    def to(self, device: torch.device | str) -> Tensor:
        """All of them on a device, for a set that fits there."""
        return torch.cat([torch.from_numpy(file).to(device) for file in self.files])


def block_order(count: int, buffer: int, generator: torch.Generator) -> Tensor:
    """Indices (count,) in random order, of which neighbours lie near each other in the files.

    Blocks of `BLOCK` rows come in random order; of every `buffer` rows that follow each other then,
    the order is random. So about `buffer` pictures are in use at a time, and they are read in
    blocks, which a disk does faster than single pictures.
    """
    blocks = torch.arange(count).split(BLOCK)
    places = torch.randperm(len(blocks), generator=generator).tolist()
    rows = torch.cat([blocks[place] for place in places])
    parts = [part[torch.randperm(len(part), generator=generator)] for part in rows.split(buffer)]
    return torch.cat(parts)


def rule_of(preprocess: Preprocess) -> dict[str, Any]:
    """What the pixels in shards depend on."""
    told = preprocess.settings()
    return {name: told[name] for name in ("size", "mode", "resize")} | {
        "version": preprocess.VERSION
    }


@dataclass(frozen=True)
class Sharded(Packed):
    """A data set from a folder of shards; everything that identifies it was written down there."""

    rule: dict[str, Any] = field(default_factory=dict)
    shared: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def in_train(self) -> dict[str, np.ndarray]:
        return self.shared

    def decoded(self, preprocess: Preprocess) -> dict[str, Decoded]:
        """Raises ValueError where the pictures were packed by another rule."""
        if rule_of(preprocess) != self.rule:
            asked, there = (
                " ".join(f"{name}={value}" for name, value in rule.items())
                for rule in (rule_of(preprocess), self.rule)
            )
            raise ValueError(
                f"{self.name}: the shards hold pictures with {there}, the network wants {asked}; "
                "write others with `experiments.py pack --shards --size … --mode …`"
            )
        return {split: replace(rows, preprocess=preprocess) for split, rows in self.splits.items()}


def is_sharded(where: str | Path) -> bool:
    return (Path(where).expanduser() / ABOUT).is_file()


def shard_names(split: str, count: int) -> list[str]:
    return [f"{split}-{number:05d}-of-{count:05d}.npy" for number in range(count)]


def read_shards(where: str | Path, strict: bool = False) -> Sharded:
    """The data set in a folder that `lab.shard_writer` made; with `strict` each SHA-256 is checked.

    Raises ValueError naming the file that is missing, damaged, or not as it was written.
    """
    root = Path(where).expanduser()
    about = _about(root / ABOUT)
    names, splits, votes, shared = tuple(about["class_names"]), {}, {}, {}
    rule = Preprocess(about["rule"]["size"], about["rule"]["mode"])
    for split in SPLITS:
        told = about["splits"][split]
        files = [
            _mapped(root / name, (count, *about["shape"]), np.uint8, strict)
            for name, count in zip(
                shard_names(split, len(told["shards"])), told["shards"], strict=True
            )
        ]
        count = sum(told["shards"])
        pixels: Any = torch.from_numpy(files[0]) if len(files) == 1 else ShardedPixels(files)
        labels = _mapped(root / f"{split}-labels.npy", (count,), np.uint16, strict)
        if labels.size and labels.max() >= len(names):
            raise ValueError(f"{root / f'{split}-labels.npy'}: a label is none of {list(names)}")
        splits[split] = Decoded(pixels, torch.from_numpy(labels.astype(np.int64)), names, rule)
        if split != "train":
            shared[split] = _mapped(root / f"{split}-in_train.npy", (count,), np.bool_, strict)
        if about["vote_names"]:
            shape = (count, len(about["vote_names"]))
            found = _mapped(root / f"{split}-votes.npy", shape, np.uint8, strict)
            votes[split] = torch.from_numpy(np.array(found))
    return Sharded(splits, about["name"], about["fingerprint"], about["crop"], votes,
                   tuple(about["vote_names"]), rule=about["rule"], shared=shared,
                   cleaned=about["cleaned"], merged=about.get("merged") is True)  # fmt: skip


def _about(path: Path) -> dict[str, Any]:
    """What the shards are. Raises ValueError where the file does not say all of it."""
    kinds = {"name": str, "fingerprint": str, "cleaned": str, "crop": dict, "rule": dict,
             "class_names": list, "shape": list, "vote_names": list, "splits": dict}  # fmt: skip
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        wrong = [name for name, kind in kinds.items() if not isinstance(about[name], kind)]
        counts = [n for split in SPLITS for n in about["splits"][split]["shards"]]
        if wrong or not all(isinstance(n, int) and n > 0 for n in counts):
            raise ValueError(f"{wrong or 'shards'} are not what is written there")
        Preprocess(about["rule"]["size"], about["rule"]["mode"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{shown(path)} does not tell what the shards are ({type(error).__name__}: {error}); "
            "write them again with `experiments.py pack --shards`"
        ) from error
    return about


def _mapped(path: Path, shape: tuple[int, ...], kind: Any, strict: bool) -> np.ndarray:
    """A .npy file, mapped; changes to the array stay in memory."""
    try:
        found = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{shown(path)} cannot be read ({error}); copy it again") from error
    if found.shape != shape or found.dtype != kind:
        raise ValueError(
            f"{shown(path)} holds {found.dtype} {found.shape}, not {np.dtype(kind)} {shape} as "
            f"{ABOUT} says; copy the folder again"
        )
    if strict and not is_whole(path):
        raise ValueError(f"{shown(path)} is damaged: its SHA-256 is another; copy it again")
    return found
