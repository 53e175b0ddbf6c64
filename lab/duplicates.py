"""Which validation and test faces are, pixel for pixel, a training face too.

Why: such a face tests memory. FER2013 has hundreds of them, and a network's accuracy on the
others is the figure that says how well it does on a face it never saw.
"""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from expression.files import atomic_path
from hf_collate import Decoded

__all__ = ["in_train", "report"]


def in_train(splits: Mapping[str, Any], cache: Path | None = None) -> dict[str, np.ndarray]:
    """{split: bool (n,)} of every split but train: whether the row's picture is in train too.

    Two pictures are the same when their decoded pixels, size and colour mode are. `cache` is an
    .npz file that keeps the answer: decoding large pictures takes a minute.
    """
    if cache is not None and cache.exists():
        with np.load(cache, allow_pickle=False) as file:
            return {split: file[split] for split in file.files}
    known = set(digests(splits["train"]))
    found: dict[str, Any] = {
        split: np.array([digest in known for digest in digests(rows)], dtype=bool)
        for split, rows in splits.items()
        if split != "train"
    }
    if cache is not None:
        with atomic_path(cache) as part:
            np.savez_compressed(part, **found)
    return found


def digests(rows: Any) -> Iterator[bytes]:
    """A hash of each row's decoded picture, in order; `rows` are a Dataset or Decoded."""
    if isinstance(rows, Decoded):
        pictures = iter(rows.pixels.numpy())
    else:
        pictures = (row["image"] for row in rows.select_columns(["image"]))
    for picture in pictures:
        pixels = np.asarray(picture)
        mode = getattr(picture, "mode", "")
        yield sha256(f"{mode} {pixels.shape}".encode() + pixels.tobytes()).digest()


def report(found: Mapping[str, np.ndarray]) -> list[str]:
    """One line a split that has such faces: '291 of 3,589 test faces are in train too'."""
    return [
        f"{int(rows.sum()):,} of {len(rows):,} {split} faces are in train too, pixel for pixel"
        for split, rows in found.items()
        if rows.any()
    ]
