"""Nine ways in which a picture of a face is worse than it should be, each at five severities.

Why: a network's accuracy is measured on tidy crops, but it meets blurred, dark, covered and badly
cut faces. Blur, resizing and JPEG are Pillow's; noise, gain and covers are a line of numpy each.
The libraries of ImageNet-C's corruptions need OpenCV, want colour pictures, are tuned to pictures
of 224 pixels and draw from a global random state; none covers eyes or mouth.
Source: written for this project; the idea of corruptions at five severities: Hendrycks and
Dietterich 2019, arXiv:1903.12261. Needs numpy and pillow; copy freely (MIT, see LICENSE).
"""

import io
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

__all__ = ["SEVERITIES", "SIDE", "UNITS", "corrupt"]

SIDE = 48  # pixels; lengths below are of pictures of this side

# What each corruption does at severity 1 to 5. Chosen by eye, on drawn faces, before any network
# was measured: at severity 3 a person can still name the expression.
SEVERITIES: dict[str, tuple[float, ...]] = {
    "blur": (0.5, 0.9, 1.3, 1.9, 2.7),
    "noise": (0.03, 0.06, 0.10, 0.16, 0.25),
    "darkness": (0.6, 0.4, 0.25, 0.15, 0.08),
    "jpeg": (50, 30, 20, 12, 7),
    "low_resolution": (32, 25, 19, 14, 10),
    "eyes_covered": (1, 2, 3, 4, 5),
    "mouth_covered": (1, 2, 3, 4, 5),
    "shift": (2, 4, 6, 8, 11),
    "scale": (0.07, 0.14, 0.21, 0.28, 0.36),
}
UNITS = {
    "blur": "standard deviation of a Gaussian, in pixels",
    "noise": "standard deviation of Gaussian noise, as a share of white",
    "darkness": "what every pixel is multiplied by",
    "jpeg": "quality of the file",
    "low_resolution": "pixels that are left of each side",
    "eyes_covered": "a growing rectangle of the picture's mean gray",
    "mouth_covered": "a growing rectangle of the picture's mean gray",
    "shift": "pixels that the crop is off, in one of eight directions",
    "scale": "share by which the crop is too small or too large",
}

# (top, bottom, left, right) by severity, each inside the next. In the mean of FER2013's training
# faces the eyes are in row 17 and the mouth in row 38.
EYES = ((15, 19, 8, 40), (14, 21, 6, 42), (12, 22, 4, 44), (9, 24, 2, 46), (5, 27, 0, 48))
MOUTH = ((36, 40, 17, 31), (34, 42, 15, 33), (32, 44, 12, 36), (30, 46, 9, 39), (27, 48, 4, 44))
DIRECTIONS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x)

Face = np.ndarray  # (SIDE, SIDE) uint8


def corrupt(faces: np.ndarray, name: str, severity: int) -> np.ndarray:
    """Gray faces (N, 48, 48) uint8 → the same, corrupted; severity 0 leaves them as they are.

    What is random (noise, direction) follows from each face's own pixels: the same face is changed
    in the same way in any order or selection, and its noise has one pattern at all severities.
    Raises ValueError for an unknown corruption or severity, or pictures of another shape or type.
    """
    if name not in SEVERITIES or severity not in range(6):
        raise ValueError(
            f"no corruption {name!r} of severity {severity}; there are {', '.join(SEVERITIES)}, "
            "from 0 (none) to 5"
        )
    if faces.shape[1:] != (SIDE, SIDE) or faces.dtype != np.uint8:
        raise ValueError(
            f"faces are {faces.dtype} {faces.shape}; corruptions want uint8 (N, {SIDE}, {SIDE})"
        )
    if severity == 0:
        return faces.copy()
    change, amount = CHANGES[name], SEVERITIES[name][severity - 1]
    changed = [change(face, amount) for face in faces]
    return np.stack(changed) if changed else faces.copy()


def random_of(face: Face) -> np.random.Generator:
    """Random numbers that depend on the face's pixels alone."""
    return np.random.default_rng(zlib.crc32(face.tobytes()))


def blur(face: Face, deviation: float) -> Face:
    return np.asarray(Image.fromarray(face).filter(ImageFilter.GaussianBlur(deviation)))


def noise(face: Face, deviation: float) -> Face:
    pattern = random_of(face).standard_normal(face.shape)
    return (face + 255 * deviation * pattern).round().clip(0, 255).astype(np.uint8)


def darkness(face: Face, gain: float) -> Face:
    return (face * gain).round().astype(np.uint8)


def jpeg(face: Face, quality: float) -> Face:
    file = io.BytesIO()
    Image.fromarray(face).save(file, "JPEG", quality=int(quality))
    with Image.open(file) as picture:
        return np.asarray(picture)


def low_resolution(face: Face, side: float) -> Face:
    small = Image.fromarray(face).resize((int(side),) * 2, Image.Resampling.BILINEAR)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def covered(face: Face, box: tuple[int, int, int, int]) -> Face:
    top, bottom, left, right = box
    changed = face.copy()
    changed[top:bottom, left:right] = round(face.mean())
    return changed


def shift(face: Face, pixels: float) -> Face:
    """The crop moved; what it then shows beyond the picture repeats the edge."""
    reach = int(pixels)
    y, x = DIRECTIONS[random_of(face).integers(len(DIRECTIONS))]
    top, left = reach * (1 + y), reach * (1 + x)
    return np.pad(face, reach, mode="edge")[top : top + SIDE, left : left + SIDE]


def scale(face: Face, share: float) -> Face:
    """The crop too small for half of the faces, too large for the others, its edge repeated."""
    grown = random_of(face).random() < 0.5
    margin = SIDE // 2
    half = margin * (1 + share if grown else 1 - share)
    padded = Image.fromarray(np.pad(face, margin, mode="edge"))
    box = (SIDE - half, SIDE - half, SIDE + half, SIDE + half)
    return np.asarray(padded.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box))


CHANGES: dict[str, Callable[[Face, float], Face]] = {
    "blur": blur,
    "noise": noise,
    "darkness": darkness,
    "jpeg": jpeg,
    "low_resolution": low_resolution,
    "eyes_covered": lambda face, severity: covered(face, EYES[int(severity) - 1]),
    "mouth_covered": lambda face, severity: covered(face, MOUTH[int(severity) - 1]),
    "shift": shift,
    "scale": scale,
}
