"""Colour pictures of 16 bits a channel that use only some of them, as 12-bit cameras write.

Why: pillow keeps the upper byte of each 16-bit colour. Of a picture with 12 bits that is 0 to 15 of
255: nearly black. Here the lower bytes are decoded, too, by reading each number the other way
round, and the colours are scaled by their real range.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from expression.preprocessing import to_8_bit, value_range

__all__ = ["full_range"]

NARROW = 63  # largest upper byte of a picture that uses 14 of 16 bits at most
MOST = 30_000_000  # pixels
OTHER = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}


def order(tile: tuple) -> tuple[str, str]:
    """How a part of a file is stored: ("RGB", "16B") for example, or ("", "")."""
    raw = tile[3] if isinstance(tile[3], str) else tile[3][0] if tile[3] else ""
    bands, _, bits = str(raw).partition(";")
    return (bands, bits) if bands in ("RGB", "RGBA", "RGBX") and bits in OTHER else ("", "")


def swapped(args: Any, raw: str) -> Any:
    """A decoder's arguments with another raw mode."""
    return raw if isinstance(args, str) else (raw, *args[1:])


def full_range(image: Image.Image, reopen: Callable[[], Image.Image]) -> Image.Image:
    """The picture itself, or with more light where its 16-bit colours are all small numbers.

    `image` is a file whose pixels are not read yet; `reopen` opens it once more. Raises what
    decoding raises.
    """
    stored = isinstance(image, ImageFile) and [order(tile) for tile in image.tile]
    if not stored or ("", "") in stored or image.width * image.height > MOST:
        return image
    image.load()
    if max(np.asarray(image.getchannel(band)).max() for band in range(3)) > NARROW:
        return image
    lower = reopen()
    assert isinstance(lower, ImageFile)
    lower.tile = [
        tile._replace(args=swapped(tile[3], f"{bands};{OTHER[bits]}"))
        for tile, (bands, bits) in zip(lower.tile, stored, strict=True)
    ]
    lower.load()

    def values(band: int) -> np.ndarray:
        upper = np.asarray(image.getchannel(band)).astype(np.uint16)
        return upper << 8 | np.asarray(lower.getchannel(band))

    limits = value_range(values(band) for band in range(3))
    channels = [Image.fromarray(to_8_bit(values(band), *limits)) for band in range(3)]
    if image.mode == "RGBA":
        channels.append(Image.fromarray(to_8_bit(values(3), *value_range([values(3)]))))
    bright = Image.merge(image.mode, channels)
    bright.info = {key: value for key, value in image.info.items() if key != "transparency"}
    return bright
