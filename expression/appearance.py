"""Tell whether two faces of one video are the same person's, in about a millisecond.

Why: a face that leaves and comes back should keep its number. What is compared is a histogram of
oriented gradients (Dalal and Triggs 2005) of the gray face, after a linear projection that keeps
apart people and forgets light, focus and the box's jitter (Fisher's discriminant). The projection
and the three levels below were fitted on people's names in the file names of Muxspace by
`benchmarks/appearance.py`; benchmarks/appearance.json holds what they are worth on other people.
It is a hint for one video, not recognition: most pictures of other days are not joined. Vectors
stay in memory, and are forgotten with the tracker. Needs numpy and pillow.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from expression.faces import CropRule, Face, cut

__all__ = [
    "WEIGHTS",
    "Appearance",
    "default_appearance",
    "gradients",
    "is_cut",
    "samples",
    "thumbnail",
]

WEIGHTS = Path(__file__).resolve().parent / "weights" / "appearance.npz"
SIDE, CELL, BINS = 48, 8, 8  # pixels of the gray face, of a cell; directions, a power of two
LOOSE = 68  # pixels: holds a square of SIDE, whichever way it is turned
SQUARE = CropRule(size=1.0)  # the square of the box's area
ROWS = np.arange(SIDE) // CELL
CELLS = (ROWS[:, None] * (SIDE // CELL) + ROWS) * BINS  # (SIDE, SIDE): where a pixel's bins begin
SIZE = (SIDE // CELL) ** 2 * BINS
EDGED = np.clip(np.arange(-1, SIDE // CELL + 1), 0, SIDE // CELL - 1)  # cells, the edge's twice
FAINT = 5.0  # gray levels: gradients of a cell below that are noise


def upright_gray(image: Image.Image, face: Face) -> np.ndarray:
    """The face, turned upright, (48, 48) float32 in [0, 255]."""
    left, top, side = SQUARE.square(face.box)
    reach = side * (LOOSE / SIDE - 1) / 2
    left, top, side = round(left - reach), round(top - reach), max(round(side + 2 * reach), 1)
    box = (left, top, left + side, top + side)
    if left < 0 or top < 0 or box[2] > image.width or box[3] > image.height:
        image, box = cut(image, left, top, side), (0, 0, side, side)
    small = image.resize((LOOSE, LOOSE), Image.Resampling.BILINEAR, box, 1.1).convert("L")
    edge = (LOOSE - SIDE) // 2
    if abs(face.tilt) > 1:
        small = small.rotate(face.tilt, Image.Resampling.BILINEAR)
    return np.asarray(small, np.float32)[edge : edge + SIDE, edge : edge + SIDE]


def gradients(gray: np.ndarray) -> np.ndarray:
    """Histograms of directions in 6 × 6 cells of a gray face (48, 48) → (288,), each at most ~1.

    Each cell is divided by what it and its neighbours hold, so that light cancels out.
    """
    across, down = np.zeros_like(gray), np.zeros_like(gray)
    across[:, 1:-1] = gray[:, 2:] - gray[:, :-2]
    down[1:-1] = gray[2:] - gray[:-2]
    strength = np.hypot(across, down)
    turn = np.arctan2(down, across) * np.float32(BINS / np.pi)
    turn[turn < 0] += BINS  # a direction and its reverse are one
    first = turn.astype(np.intp)
    upper = strength * (turn - first)  # between two directions: shared by both
    sums = np.bincount((CELLS + (first & (BINS - 1))).ravel(), (strength - upper).ravel(), SIZE)
    sums += np.bincount((CELLS + (first + 1 & (BINS - 1))).ravel(), upper.ravel(), SIZE)
    cells = sums.reshape(SIDE // CELL, SIDE // CELL, BINS)
    power = (cells * cells).sum(-1)[EDGED][:, EDGED]
    power = power[:-2] + power[1:-1] + power[2:]
    power = (power[:, :-2] + power[:, 1:-1] + power[:, 2:]) / 9
    return np.sqrt(cells / np.sqrt(power + FAINT**2)[..., None]).astype(np.float32).ravel()


class Appearance:
    """Faces → unit vectors (128,) float32; the product of two is their similarity, in [-1, 1].

    `same`: from here on, two faces are one person wherever they are; 1 of 1000 pairs of different
    people reach it. `near`: one person, where the place agrees too; 1 of 100. `other`: two people
    although the place agrees; 19 of 20 pairs of one person's pictures of different days are above.
    Raises FileNotFoundError without its weights.
    """

    def __init__(self, weights: Path | str = WEIGHTS) -> None:
        with np.load(weights) as file:
            self.mean = file["mean"].astype(np.float32)  # (288,)
            self.projection = file["projection"].astype(np.float32)  # (288, 128)
            self.same, self.near, self.other = (float(file[k]) for k in ("same", "near", "other"))

    def __call__(self, image: Image.Image, face: Face) -> np.ndarray:
        """`image` is "L" or "RGB", `face` where its face is."""
        vector = (gradients(upright_gray(image, face)) - self.mean) @ self.projection
        return vector / max(float(np.linalg.norm(vector)), 1e-6)


@lru_cache(maxsize=1)
def default_appearance() -> Appearance:
    """The one that comes with this package, read once."""
    return Appearance()


# --- from one frame to the next ---


def thumbnail(image: Image.Image) -> np.ndarray:
    """A frame as gray means less their mean, (144,) float32: shows a cut, and is quick to make."""
    few = image.resize((64, 36), Image.Resampling.NEAREST).convert("L").reduce(4)
    values = np.array(few, np.float32).ravel()
    return values - float(values.sum()) / len(values)


def is_cut(before: np.ndarray, now: np.ndarray) -> bool:
    """Whether a thumbnail shows another scene than the one before; a change of light is none."""
    change = float(np.abs(now - before).sum()) / len(now)  # gray levels
    return change > 12 and change > float(np.abs(before).sum()) / len(now) / 2


def samples(image: Image.Image, faces: Sequence[Face]) -> np.ndarray:
    """What is in each face's box, as unit vectors (N, 64): they hardly change in one frame's time.

    Means of four pixels each: single ones change with every small step of a face.
    """
    few = []
    for x, y, width, height in (face.box for face in faces):
        left, top = min(max(x, 0), image.width - 1), min(max(y, 0), image.height - 1)
        right, bottom = min(x + width, image.width), min(y + height, image.height)
        box = (left, top, max(right, left + 1), max(bottom, top + 1))
        small = image.resize((16, 16), Image.Resampling.NEAREST, box).convert("L").reduce(2)
        few.append(np.asarray(small))
    values = np.array(few, np.float32).reshape(len(few), -1)
    values -= values.mean(1, keepdims=True)
    return values / np.maximum(np.sqrt((values * values).sum(1, keepdims=True)), 1e-6)
