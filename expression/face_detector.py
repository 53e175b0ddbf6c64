"""Find faces in pictures, follow them, and measure how a training set was cropped.

The detector is MTCNN (Zhang et al. 2016, arXiv 1604.02878) with the weights that come inside the
`facenet-pytorch` package: no download. `expression/mtcnn_torch.py` runs its networks.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import islice
from statistics import median

from PIL import Image

from expression.faces import Box, CropRule, Face, keep_best, largest_first, turn_back

__all__ = ["Box", "CropRule", "Face", "FaceFinder", "measure_crop"]


class FaceFinder:
    """Finds faces in pictures; raises ImportError, one sentence, without facenet-pytorch.

    `smallest` is the size of the smallest face looked for, as a share of the picture's longer side:
    halving it takes four times as long. Faces smaller than `pixels` are skipped: too few pixels to
    read an expression from. `least` is the score from which something counts as a face.
    """

    def __init__(
        self,
        smallest: float = 0.06,
        least: float = 0.85,
        detail: int = 640,
        pixels: int = 28,
    ) -> None:
        from expression.mtcnn_torch import Cascade  # imports torch, so only when needed

        if not 0 < smallest <= 1:
            raise ValueError(f"smallest is {smallest}; it is a share of the picture, in (0, 1]")
        self.least, self.detail = least, detail
        self.cascade = Cascade(smallest, least, detail, pixels)

    def find(self, image: Image.Image, tilted: bool = True) -> list[Face]:
        """All faces, the largest first. If there is none, searches the picture turned by ±40°.

        `image` is "L" or "RGB", upright. `tilted=False` leaves out the second search.
        """
        found = self.find_batch([image])[0]
        return found if found or not tilted else self.find_tilted(image)

    def find_tilted(self, image: Image.Image) -> list[Face]:
        """Faces in the picture turned by ±40 degrees; they need a higher score."""
        found: list[Face] = []
        scale = min(1.0, self.detail / max(image.size))  # turning a whole photo takes seconds
        size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
        small = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        angles = (40, -40)
        turned = self.find_batch([small.rotate(a, Image.Resampling.BILINEAR) for a in angles])
        for angle, faces in zip(angles, turned, strict=True):
            found += [turn_back(face, angle, size, scale) for face in faces]
        return largest_first(keep_best(f for f in found if f.score >= (2 + self.least) / 3))

    def find_batch(self, images: Sequence[Image.Image]) -> list[list[Face]]:
        """As `find` without the second search, several pictures in one pass of each network."""
        return self.cascade.find_batch(images) if images else []

    def follow(self, image: Image.Image, faces: Sequence[Face]) -> list[Face | None]:
        """Where faces of the last frame are now; None for a face that is gone.

        One pass of the last network, at the old places: about 20 times as fast as `find`. A face
        may have moved by about a quarter of its size.
        """
        return self.cascade.follow(image, faces) if faces else []


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
