"""Which validation and test faces are a training face too, of the same data set or of another.

Why: such a face tests memory. FER2013 has hundreds of them, and a network's accuracy on the
others is the figure that says how well it does on a face it never saw. Within one data set the
pixels are compared; between two, where a picture may be scaled and compressed anew, a perceptual
hash is (ImageHash's pHash with 256 bits, Zauner 2010).
"""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from expression.kept_files import is_whole, keep_file
from expression.preprocessing import flatten
from hf_collate import Decoded

__all__ = ["SAME_PICTURE", "hashes", "in_train", "picture_of", "pixel_digest", "report",
           "same_picture"]  # fmt: skip

# Bits of 256 in which two hashes of one picture may differ. Checked on 225 pictures that lie in
# two collections, known by their file names, once at 224 px and once at 128 px and below: their
# hashes differ in 6 bits at most, those of any two other pictures in 48 or more.
SAME_PICTURE = 16


def in_train(splits: Mapping[str, Any], cache: Path | None = None) -> dict[str, np.ndarray]:
    """{split: bool (n,)} of every split but train: whether the row's picture is in train too.

    Two pictures are the same when their decoded pixels, size and colour mode are. `cache` is an
    .npz file that keeps the answer: decoding large pictures takes a minute.
    """
    if cache is not None and is_whole(cache):
        with np.load(cache, allow_pickle=False) as file:
            return {split: file[split] for split in file.files}
    known = set(digests(splits["train"]))
    found: dict[str, Any] = {
        split: np.array([digest in known for digest in digests(rows)], dtype=bool)
        for split, rows in splits.items()
        if split != "train"
    }
    if cache is not None:
        with keep_file(cache) as part:
            np.savez_compressed(part, **found)
    return found


def digests(rows: Any) -> Iterator[bytes]:
    """A hash of each row's decoded picture, in order; `rows` are a Dataset or Decoded."""
    if isinstance(rows, Decoded):
        pictures = (pixels.numpy() for pixels in rows.pixels)
    else:
        pictures = (row["image"] for row in rows.select_columns(["image"]))
    yield from map(pixel_digest, pictures)


def pixel_digest(picture: Any) -> bytes:
    """A hash of a decoded picture, a PIL one or an array."""
    pixels = np.asarray(picture)
    mode = getattr(picture, "mode", "")
    return sha256(f"{mode} {pixels.shape}".encode() + pixels.tobytes()).digest()


def hashes(rows: Any, cache: Path | None = None) -> np.ndarray:
    """Perceptual hashes (n, 32) uint8, 256 bits each, of the pictures in a Dataset or Decoded.

    Two files of one picture, scaled or compressed differently, have nearly the same bits.
    `cache` is an .npz file that keeps them: thousands of pictures take a minute.
    """
    import imagehash

    if cache is not None and is_whole(cache):
        with np.load(cache, allow_pickle=False) as file:
            return np.asarray(file["hashes"])
    bits = [
        imagehash.phash(flatten(picture).convert("L"), hash_size=16).hash
        for picture in pictures(rows)
    ]
    found = np.packbits(np.reshape(bits, (len(bits), 256)), axis=1)
    if cache is not None:
        with keep_file(cache) as part:
            np.savez_compressed(part, hashes=found)
    return found


def same_picture(known: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """bool (n,): which of the hashes `shown` (n, 32) differ from one of `known` (m, 32) in
    `SAME_PICTURE` bits at most."""
    signs = 2.0 * np.unpackbits(known, axis=1).astype(np.float32) - 1
    found = np.zeros(len(shown), bool)
    for start in range(0, len(shown), 512):
        part = 2.0 * np.unpackbits(shown[start : start + 512], axis=1).astype(np.float32) - 1
        equal = (part @ signs.T).max(1, initial=-np.inf)  # 256 − 2 · differing bits
        found[start : start + 512] = equal >= 256 - 2 * SAME_PICTURE
    return found


def pictures(rows: Any) -> Iterator[Image.Image]:
    """The pictures of a Dataset or Decoded, in order."""
    if isinstance(rows, Decoded):
        yield from (picture_of(pixels.numpy()) for pixels in rows.pixels)
    else:
        yield from (row["image"] for row in rows.select_columns(["image"]))


def picture_of(pixels: np.ndarray) -> Image.Image:
    """A gray or colour picture from uint8 pixels (1 or 3 bands, height, width)."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def report(found: Mapping[str, np.ndarray]) -> list[str]:
    """One line a split that has such faces: '291 of 3,589 test faces are in train too'."""
    return [
        f"{int(rows.sum()):,} of {len(rows):,} {split} faces are in train too, pixel for pixel"
        for split, rows in found.items()
        if rows.any()
    ]
