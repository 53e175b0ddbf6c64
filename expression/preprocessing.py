"""From a picture to the array that a network reads: one rule for training and serving.

Why: a network answers nonsense when the pictures it meets are scaled or normalised otherwise
than in training. So the rule is a value: training uses it, the checkpoint carries its settings,
and serving builds the same rule from them.
Needs numpy and pillow.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image, ImageOps

__all__ = ["Preprocess", "flatten", "is_deep", "to_8_bit", "value_range"]

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

    VERSION: ClassVar[int] = 2  # raised when the same settings give other pixels: caches name it

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


def flatten(image: Image.Image, values: tuple[float, float] | None = None) -> Image.Image:
    """Any PIL mode → "L" or "RGB": transparency on white, wider types scaled to 8 bit.

    `values` are those that mean black and white in a picture with more than 8 bits, for a part of
    a picture: `value_range` of the whole. Without them they are judged from this picture.
    """
    clear = image.has_transparency_data
    if image.mode in BANDS and not clear:
        return image
    if is_deep(image):
        pixels = np.asarray(image)
        return Image.fromarray(to_8_bit(pixels, *(values or value_range([pixels]))))
    if image.mode == "1" and not clear:
        return image.convert("L")
    if image.mode == "LAB":
        return lab_to_rgb(image)
    if clear:
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def lab_to_rgb(image: Image.Image) -> Image.Image:
    """CIE L*a*b* → RGB, which `Image.convert` cannot."""
    from PIL import ImageCms  # hardly ever needed

    rgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")
    assert converted is not None  # None is for a conversion in place
    return converted


# --- pictures with more than 8 bits ---

FULL_SCALES = (255, 1023, 4095, 16383, 65535)  # white in 8, 10, 12, 14 and 16 bits
NEARLY_BLACK = 16  # of 255: a picture that is no brighter was not meant on that scale


def is_deep(image: Image.Image) -> bool:
    """Whether a picture's gray values are floats or integers of more than 8 bits."""
    return image.mode == "F" or image.mode.startswith("I")


def value_range(parts: Iterable[np.ndarray]) -> tuple[float, float]:
    """The values that mean black and white in a picture whose parts are given.

    The type does not tell: 12 bits come in a 16-bit file, and floats go to 1 or to 255. So white
    is the smallest full scale that no value exceeds: 1, 255, 1023, 4095, 16383 or 65535; the
    largest value itself between 1 and 16 and above 65535. With clearly negative values, black and
    white are -1 and 1, or the smallest and the largest value. Values that are no finite number do
    not count.
    """
    lowest = highest = 0.0
    for part in parts:
        if (finite := part[np.isfinite(part)]).size:
            lowest = min(lowest, float(finite.min()))
            highest = max(highest, float(finite.max()))
    if lowest < -0.1 * max(highest, 0):  # less is the ringing of a filter
        return (-1, 1) if lowest >= -1 and highest <= 1 else (lowest, highest)
    if highest <= NEARLY_BLACK:
        return 0, max(highest, 1)
    return 0, next((scale for scale in FULL_SCALES if highest <= scale), highest)


def to_8_bit(pixels: np.ndarray, black: float, white: float) -> np.ndarray:
    """Values of any number type → uint8 of the same shape: `black` is 0, `white` is 255."""
    scaled = pixels.astype(np.float32)  # a copy, changed in place: these pictures are large
    with np.errstate(invalid="ignore", over="ignore"):  # infinite values are clipped below
        scaled -= np.float32(black)
        scaled *= np.float32(255 / max(white - black, 1e-30))
    np.nan_to_num(scaled, copy=False, nan=0, posinf=255, neginf=0)
    return np.rint(scaled, out=scaled).clip(0, 255, out=scaled).astype(np.uint8)
