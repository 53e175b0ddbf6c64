"""From a picture to the array that a network reads: one rule for training and serving.

Why: a network answers nonsense when the pictures it meets are scaled or normalised otherwise
than in training. So the rule is a value: training uses it, the checkpoint carries its settings,
and serving builds the same rule from them.
Needs numpy and pillow.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

__all__ = ["Preprocess", "flatten"]

BANDS = {"L": 1, "RGB": 3}  # by mode
RESIZES = ("squash", "crop")


@dataclass(frozen=True)
class Preprocess:
    """PIL picture → array (channels, size, size), float32, normalised.

    `mode` is what the picture is converted to, "L" (gray) or "RGB"; `channels` may repeat gray
    to 3 for a network made for colour. `resize` is "squash" (both sides to `size`, whatever the
    shape) or "crop" (shorter side to `size`, then the middle). `mean` and `std`, one for each
    channel, refer to pixel values in [0, 1]. Raises ValueError when the settings do not fit.
    """

    size: int
    mode: str = "RGB"
    channels: int = 0  # 0: as many as the mode has
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    resize: str = "squash"

    def __post_init__(self) -> None:
        bands = BANDS.get(self.mode)
        if bands is None:
            raise ValueError(f"mode is {self.mode!r}; known are {', '.join(BANDS)}")
        if self.resize not in RESIZES:
            raise ValueError(f"resize is {self.resize!r}; known are {', '.join(RESIZES)}")
        channels = self.channels or bands
        if self.size < 1 or channels not in (bands, 3):
            raise ValueError(f"size {self.size} with {channels} channels of mode {self.mode!r}")
        object.__setattr__(self, "channels", channels)
        for name in ("mean", "std"):
            values = tuple(float(v) for v in getattr(self, name))
            values = values * channels if len(values) == 1 else values
            if len(values) != channels:
                raise ValueError(f"{name} has {len(values)} values for {channels} channels")
            object.__setattr__(self, name, values)

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Resize only: picture → uint8 (bands, size, size). EXIF rotation is undone."""
        image = flatten(ImageOps.exif_transpose(image)).convert(self.mode)
        if self.resize == "crop":
            image = ImageOps.fit(image, (self.size, self.size), Image.Resampling.BILINEAR)
        elif image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        array = np.asarray(image)  # (H, W) or (H, W, 3)
        return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)

    def normalise(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (…, bands, H, W), or float in [0, 1] → normalised float32 (…, channels, H, W)."""
        images = pixels.astype(np.float32)
        if pixels.dtype == np.uint8:
            images /= np.float32(255)
        mean = np.asarray(self.mean, np.float32)[:, None, None]
        std = np.asarray(self.std, np.float32)[:, None, None]
        return (images - mean) / std  # gray spreads over all channels here

    def __call__(self, image: Image.Image) -> np.ndarray:
        return self.normalise(self.pixels(image))

    def batch(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Pictures → float32 (N, channels, size, size)."""
        if not images:
            return np.zeros((0, self.channels, self.size, self.size), np.float32)
        return self.normalise(np.stack([self.pixels(image) for image in images]))

    def settings(self) -> dict[str, Any]:
        """What a checkpoint's card needs to build this again: `Preprocess(**settings)`."""
        return asdict(self)


def flatten(image: Image.Image) -> Image.Image:
    """Any PIL mode → "L" or "RGB": transparency on white, 16 bit and float scaled to 8 bit."""
    if image.mode in BANDS:
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "F" or image.mode.startswith("I"):
        pixels = np.nan_to_num(np.asarray(image, dtype=np.float32))
        top = 65535 if pixels.max(initial=0) > 255 else 255  # 8-bit values in a wider type stay
        return Image.fromarray((pixels.clip(0, top) * (255 / top)).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
