"""A face in a picture, and the square to crop around it.

Why: a network trained on tight face crops gives wrong answers for a whole photo, or for a crop that
is tighter or looser than in training. So a checkpoint has a `CropRule`, measured on its training
pictures (`expression.face_detector.measure_crop`), and serving crops the same region around every
face that the same detector finds.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from expression.face_prediction import Box

__all__ = ["Box", "CropRule", "Face", "keep_best", "largest_first", "turn_back"]


@dataclass(frozen=True)
class Face:
    """A face: box in pixels (it may exceed the picture), score in [0, 1], tilt in degrees.

    `tilt` is the angle of the line through the eyes, positive when the picture would have
    to be turned counter-clockwise to set the face upright.
    """

    box: Box
    score: float
    tilt: float = 0.0


@dataclass(frozen=True)
class CropRule:
    """Where a face lies in a training picture: its box's centre and size, as shares of the side.

    `size` is the square root of the box's share of the picture's area; `measured` the number of
    training pictures it was measured on (0: the default, a tight crop); `detector` names the
    detector whose boxes are meant.
    """

    centre_x: float = 0.5
    centre_y: float = 0.5
    size: float = 0.8
    measured: int = 0
    upright_from: float = 15.0  # degrees of tilt from which a face is turned upright
    detector: str = "mtcnn"

    def __post_init__(self) -> None:
        places = (self.centre_x, self.centre_y, self.size)
        if not all(isinstance(v, int | float) and 0 < v < 10 for v in places):
            raise ValueError(f"crop rule {places}: each value is a share of the side, above 0")

    def square(self, box: Box) -> tuple[float, float, float]:
        """Left, top and side of the region to cut around a face's box, in pixels."""
        x, y, width, height = box
        side = max(math.sqrt(max(width * height, 1)) / self.size, 1.0)
        left = x + width / 2 - self.centre_x * side
        return left, y + height / 2 - self.centre_y * side, side

    def __call__(self, image: Image.Image, box: Box, tilt: float = 0.0) -> Image.Image:
        """The square around a face; what lies outside the picture repeats its edge."""
        left, top, side = self.square(box)
        if abs(tilt) < self.upright_from:
            return cut(image, left, top, side)
        x, y = self.centre_x, self.centre_y
        reach = side * math.hypot(max(x, 1 - x), max(y, 1 - y)) + 1  # the square's far corner
        loose = cut(image, left + x * side - reach, top + y * side - reach, 2 * reach)
        turned = loose.rotate(tilt, Image.Resampling.BILINEAR)  # about the face, not the square
        left, top = round(turned.width / 2 - x * side), round(turned.height / 2 - y * side)
        n = max(round(side), 1)
        return turned.crop((left, top, left + n, top + n))

    def settings(self) -> dict[str, Any]:
        """For a checkpoint's card; `CropRule(**settings)` gives the rule again."""
        return asdict(self)


def cut(image: Image.Image, left: float, top: float, side: float) -> Image.Image:
    """A square region; outside the picture, the pixels at its edge are repeated."""
    x, y = round(left), round(top)
    n = max(round(side), 1)
    if x >= 0 and y >= 0 and x + n <= image.width and y + n <= image.height:
        return image.crop((x, y, x + n, y + n))
    rows = np.clip(np.arange(y, y + n), 0, image.height - 1)
    columns = np.clip(np.arange(x, x + n), 0, image.width - 1)
    left, top, right, bottom = (int(v) for v in (columns[0], rows[0], columns[-1], rows[-1]))
    pixels = np.asarray(image.crop((left, top, right + 1, bottom + 1)))
    return Image.fromarray(pixels[rows - rows[0]][:, columns - columns[0]])


def overlap(one: Box, other: Box) -> float:
    """Intersection over the smaller box, in [0, 1]."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0) / max(min(one[2] * one[3], other[2] * other[3]), 1)


def keep_best(faces: Iterable[Face]) -> list[Face]:
    """The faces with the highest scores, without faces that overlap one of those."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: -f.score):
        if all(overlap(face.box, other.box) < 0.6 for other in kept):
            kept.append(face)
    return kept


def largest_first(faces: Iterable[Face]) -> list[Face]:
    return sorted(faces, key=lambda f: -f.box[2] * f.box[3])


def turn_back(
    face: Face,
    angle: float,
    size: tuple[int, int],
    turned_size: tuple[int, int],
    scale: float = 1.0,
) -> Face:
    """A face found in a picture turned by `angle` degrees about its middle, as it was before.

    `size` and `turned_size` are the picture's before and after turning, `scale` is how much smaller
    it was made before that.
    """
    x, y, width, height = face.box
    a = math.radians(angle)
    dx, dy = x + width / 2 - turned_size[0] / 2, y + height / 2 - turned_size[1] / 2
    cx = size[0] / 2 + dx * math.cos(a) - dy * math.sin(a)
    cy = size[1] / 2 + dx * math.sin(a) + dy * math.cos(a)
    x, y, width, height = (
        round(v / scale) for v in (cx - width / 2, cy - height / 2, width, height)
    )
    return replace(face, box=(x, y, width, height), tilt=face.tilt + angle)
