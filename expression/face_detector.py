"""Find faces in pictures, follow them, and measure how a training set was cropped.

The detector is MTCNN (Zhang et al. 2016, arXiv 1604.02878) with the weights of facenet-pytorch, as
one ONNX file from picture to boxes, which `lab/detector/assemble.py` wrote: no download, no torch.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from expression.face_prediction import enlarged
from expression.faces import Box, CropRule, Face, keep_best, largest_first, turn_back
from expression.memory import WORKING
from expression.onnx_network import open_session
from expression.pictures import Picture, Pictures, as_picture, as_pictures, reduced

__all__ = [
    "DETECTOR",
    "FINER_SMALLEST",
    "SMALLEST_FACE",
    "Box",
    "CropRule",
    "Face",
    "FaceFinder",
    "measure_crop",
]

DETECTOR = Path(__file__).resolve().parent / "weights" / "faces.onnx"
NONE_HELD = np.zeros((0, 4), np.float32)
FIRST_SMALLEST, FINER_SMALLEST = 0.06, 0.02
# How many times less doubt a further look must leave than the first: turned by degrees, and finer.
# Chosen on benchmarks.scenes with seeds 0 and 1, where each look finds false faces.
TURNS, FINER_DOUBT = {40: 5, -40: 5, 90: 15, -90: 15, 180: 15}, 5
SMALLEST_FACE = 28  # pixels: of smaller ones no expression can be read
CROWD = 0.12  # of the longer side: where a face is smaller, there may be others
WINDOW, SMALLEST_SIDE = 12, 160  # pixels: of the first network; smaller pictures are enlarged
BYTES_PER_PIXEL = 60  # that a search takes: of the largest views one at a time
SMALLEST_SEEN, LARGEST_SIDE = 20, 2048  # pixels: of the smallest face where it is searched


@dataclass(frozen=True)
class View:
    """A picture, or a part of it, as the network is shown it.

    `pixels` (H, W, 3) uint8; `origin` (4,), where its corner lies in the picture, twice; `scale`
    (4,), its pixels for one of the picture's, across, down, across, down.
    """

    pixels: np.ndarray
    origin: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, image: Image.Image, detail: int, around: np.ndarray | None = None) -> "View":
        """With the longer side of the whole picture at `detail` pixels, or at its own if less.

        With corners (M, 4) of faces `around`, only the part that holds them and what is next to
        them: the last network looks no further.
        """
        longest = max(image.size)
        scale = min(detail, max(SMALLEST_SIDE, longest)) / longest
        origin = np.zeros(2)
        if around is not None:
            box = surroundings(around, image.size, max(round(1 / scale), 1))
            image, origin = image.crop(box), np.array(box[:2])
        size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
        small = image.convert("RGB")
        if size != image.size:  # by whole steps as far as that goes: five times as fast
            small = small.resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0)
        pixels = np.asarray(small)
        missing = [(0, max(WINDOW - side, 0)) for side in pixels.shape[:2]]
        if any(after for _, after in missing):
            pixels = np.pad(pixels, [*missing, (0, 0)], constant_values=127)
        return cls(pixels, np.tile(origin, 2), np.tile(np.divide(size, image.size), 2))

    def inside(self, corners: np.ndarray) -> np.ndarray:
        """Places in the picture, (…, 4) → in the pixels, float32."""
        return ((corners - self.origin) * self.scale).astype(np.float32)

    def outside(self, corners: np.ndarray) -> np.ndarray:
        """Places in the pixels, (…, 4) → in the picture."""
        return corners / self.scale + self.origin


def surroundings(
    corners: np.ndarray, size: tuple[int, int], step: int
) -> tuple[int, int, int, int]:
    """The part of a picture that holds these boxes and half as much around each.

    Its left and top are multiples of `step`, so that pixels are joined as in the whole picture.
    """
    middles = (corners[:, :2] + corners[:, 2:]) / 2
    reach = 0.75 * (corners[:, 2:] - corners[:, :2]).max(1, keepdims=True)
    first = np.floor((middles - reach).min(0) / step) * step
    last = np.ceil((middles + reach).max(0) / step) * step
    first = np.clip(first, 0, (np.array(size) - 1) // step * step)
    last = np.clip(last, first + 1, size)
    (left, top), (right, bottom) = first.astype(int).tolist(), last.astype(int).tolist()
    return left, top, right, bottom


class FaceFinder:
    """Finds faces in pictures; raises FileNotFoundError or ValueError without its network.

    `smallest` is the size of the smallest face looked for, as a share of the picture's longer side;
    None looks first for faces from 0.06, and once more, finer, where that finds none or small ones.
    Halving it takes up to four times as long. Faces smaller than `pixels` are skipped: too few
    pixels to read an expression from. `least` is the score from which something counts as a face.
    Pictures are searched at `detail` pixels of the longer side, larger ones where the smallest face
    would have less than 20 there, up to 2048. `threads` are the cores that share one picture;
    several pictures may be searched at once, by as many Python threads.
    """

    def __init__(
        self,
        smallest: float | None = None,
        least: float = 0.85,
        detail: int = 640,
        pixels: int = SMALLEST_FACE,
        threads: int = 1,
    ) -> None:
        if smallest is not None and not 0 < smallest <= 1:
            raise ValueError(f"smallest is {smallest}; it is a share of the picture, in (0, 1]")
        self.smallest, self.least, self.detail, self.pixels = smallest, least, detail, pixels
        self.session = open_session(DETECTOR, threads)

    def find(self, picture: Picture, tilted: bool = True) -> list[Face]:
        """All faces, the largest first.

        `picture` is whatever `expression.pictures` opens; boxes are in pixels of what was given.
        Where there is none, the picture is searched turned by
        ±40°, lying on its sides and on its head; `tilted=False` leaves that out.
        """
        image = as_picture(picture)
        found = self.search(image)
        if self.smallest is None and is_crowd(found, image.size):
            finer = self.surer(self.search(image, FINER_SMALLEST), FINER_DOUBT)
            found = largest_first(keep_best([*found, *finer]))
        found = found or (self.find_turned(image) if tilted else [])
        return [enlarged(face, reduced(image)) for face in found]

    def surer(self, faces: Sequence[Face], doubt: int) -> list[Face]:
        """Those of which `doubt` times less doubt is left than a first look may leave.

        Each further look at a picture without faces is one more chance of a false one.
        """
        return [face for face in faces if face.score >= 1 - (1 - self.least) / doubt]

    def find_turned(self, image: Image.Image) -> list[Face]:
        """Faces in the picture turned counter-clockwise by each of several angles."""
        found: list[Face] = []
        scale = min(1.0, self.detail / max(image.size))  # turning a whole photo takes seconds
        size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
        small = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        for angle, doubt in TURNS.items():
            turned = small.rotate(angle, Image.Resampling.BILINEAR, expand=angle % 90 == 0)
            faces = self.surer(self.search(turned), doubt)
            found += [turn_back(face, angle, size, turned.size, scale) for face in faces]
        return largest_first(keep_best(found))

    def find_batch(self, pictures: Pictures) -> list[list[Face]]:
        """The first search of `find` alone, for several pictures."""
        images = as_pictures(pictures)
        return [[enlarged(f, reduced(image)) for f in self.search(image)] for image in images]

    def search(self, image: Image.Image, smallest: float | None = None) -> list[Face]:
        """All faces of one picture as it is, the largest first; `smallest` instead of its own."""
        smallest = smallest or self.smallest or FIRST_SMALLEST
        finest = min(max(smallest, self.pixels / max(image.size)), 1.0)
        detail = max(self.detail, min(round(SMALLEST_SEEN / finest), LARGEST_SIDE))
        faces = [face for face, _ in self.run(View.of(image, detail), finest, NONE_HELD)]
        return largest_first(keep_best(faces))

    def follow(self, picture: Picture, faces: Sequence[Face]) -> list[Face | None]:
        """Where faces of the last frame are now; None for a face that is gone.

        One pass of the last network, at the old places: some times as fast as `find`. A face
        may have moved by about a quarter of its size.
        """
        image = as_picture(picture)
        if not faces:
            return []
        held = np.array([face.box for face in faces], np.float32) / reduced(image)
        held[:, 2:] += held[:, :2]
        view = View.of(image, self.detail, around=held)
        found: list[Face | None] = [None] * len(faces)
        for face, row in self.run(view, 1.0, held):
            found[row] = enlarged(face, reduced(image))
        return found

    def run(self, view: View, finest: float, held: np.ndarray) -> list[tuple[Face, int]]:
        """The network over a view → faces and the rows of `held`, corners (M, 4), they were.

        With none held it searches for faces from `finest`, a share of the longer side.
        """
        inputs = {
            "picture": view.pixels,
            "finest": np.array([finest], np.float32),
            "least": np.array([self.least], np.float32),
            "held": view.inside(held),
        }
        with WORKING.take(BYTES_PER_PIXEL * view.pixels.size // 3):
            boxes, scores, eyes, rows = self.session.run(
                ["boxes", "scores", "eyes", "which"], inputs
            )
        return [
            (as_face(view.outside(box), view.outside(pair.ravel()), float(score)), int(row))
            for box, pair, score, row in zip(boxes, eyes, scores, rows, strict=True)
        ]


def is_crowd(faces: Sequence[Face], size: tuple[int, int]) -> bool:
    """Whether there may be smaller faces than were looked for: none was found, or small ones."""
    return not faces or min(max(face.box[2:]) for face in faces) < CROWD * max(size)


def as_face(corners: np.ndarray, eyes: np.ndarray, score: float) -> Face:
    """A face from its box's corners and its eyes, both (4,): x, y, x, y."""
    left, top, right, bottom = corners.tolist()
    x0, y0, x1, y1 = eyes.tolist()
    tilt = math.degrees(math.atan2(y1 - y0, x1 - x0))
    box = (round(left), round(top), max(round(right - left), 1), max(round(bottom - top), 1))
    return Face(box, score, tilt)


def measure_crop(
    pictures: Iterable[Image.Image], finder: FaceFinder | None = None, most: int = 200
) -> CropRule:
    """The crop of a data set of single faces: medians over its first `most` pictures.

    Pictures without a face, or with several, are skipped; if less than a third are left, returns
    the default rule, with `measured=0`.
    """
    finder = finder or FaceFinder(smallest=0.3, pixels=0)
    found = [(image.size, finder.find_batch([image])[0]) for image in islice(pictures, most)]
    places = []
    for (w, h), faces in found:
        if len(faces) == 1:
            x, y, width, height = faces[0].box
            share = math.sqrt(width * height / (w * h))
            places.append(((x + width / 2) / w, (y + height / 2) / h, share))
    if len(places) < max(len(found) / 3, 1):
        return CropRule()
    x, y, size = (round(median(values), 3) for values in zip(*places, strict=True))
    return CropRule(x, y, size, measured=len(places))
