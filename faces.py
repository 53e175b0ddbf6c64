"""Find faces, follow them, and crop them as a training set was cropped.

Why: a network trained on tight face crops answers nonsense on a whole photo, or on a crop
that is tighter or looser than its training. So the crop is measured, not guessed:
`measure_crop` runs the detector over training pictures and keeps where the face lies in
them; a checkpoint carries that `CropRule`, and serving cuts the same region around every
face that the same detector finds.

The detector is MTCNN (Zhang et al. 2016, arXiv 1604.02878) with the weights that come
inside the `facenet-pytorch` package: no download. Its cascade is written anew here, as a
batch over pictures and scales, and so that the last network alone can follow a face from
one frame to the next.
Source: written for this project; the three networks and their weights are those of
facenet-pytorch (MIT). Needs torch, torchvision, pillow, numpy and facenet-pytorch 2.5.3
(as a program also scikit-image, for a photo); copy freely (MIT, see LICENSE).
"""

import functools
import math
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.ops import batched_nms, roi_align

__all__ = ["CropRule", "Face", "FaceFinder", "measure_crop", "use_one_core"]

CELL, STRIDE, FACTOR = 12, 2, 0.709  # of the first network; the pyramid's step
Box = tuple[int, int, int, int]  # x, y, width, height in pixels


@dataclass(frozen=True)
class Face:
    """A face in a picture: box in pixels (it may stick out), score in [0, 1], tilt in degrees.

    `tilt` is the angle of the line through the eyes, positive when the picture would have
    to be turned counter-clockwise to set the face upright.
    """

    box: Box
    score: float
    tilt: float = 0.0


@dataclass(frozen=True)
class CropRule:
    """Where a face lies in a training picture: its box's centre and size, as shares of the side.

    `size` is the square root of the box's share of the picture's area; `measured` the
    number of training pictures it was taken from (0: the default, a tight crop), and
    `detector` whose boxes are meant.
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
            raise ValueError(f"crop rule {places} is none: each is a share of the side, above 0")

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
    """A square region; where it leaves the picture the outermost pixels go on."""
    x, y = round(left), round(top)
    n = max(round(side), 1)
    if x >= 0 and y >= 0 and x + n <= image.width and y + n <= image.height:
        return image.crop((x, y, x + n, y + n))
    rows = np.clip(np.arange(y, y + n), 0, image.height - 1)
    columns = np.clip(np.arange(x, x + n), 0, image.width - 1)
    inside = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    pixels = np.asarray(image.crop(tuple(int(v) for v in inside)))
    return Image.fromarray(pixels[rows - rows[0]][:, columns - columns[0]])


SETTING = threading.Lock()


def use_one_core() -> None:
    """For a new Python thread: torch computes on one core there, and as before elsewhere.

    `torch.set_num_threads` changes the calling thread and the default of threads that have
    not used torch yet. So the default is put back, by a thread of its own: no other thread's
    setting is touched. Made for `ThreadPoolExecutor(initializer=use_one_core)`.
    """
    with SETTING:  # two new threads at once would take each other's 1 for the default
        default = torch.get_num_threads()  # before `set`: a thread's first call takes the default
        torch.set_num_threads(1)
        restore = threading.Thread(target=torch.set_num_threads, args=(default,))
        restore.start()
        restore.join()


DETECTORS = ThreadPoolExecutor(os.cpu_count() or 1, "detector", initializer=use_one_core)


def on_one_core(method: Callable[..., Any]) -> Callable[..., Any]:
    """Run a method of `FaceFinder` in a thread in which torch uses one core.

    Its networks are so small that sharing out one picture gains little on an idle machine,
    and on a busy one each of some hundred operations waits for the slower thread. Several
    callers are answered at once, on different cores.
    """

    @functools.wraps(method)
    def call(self: "FaceFinder", *args: Any, **named: Any) -> Any:
        with SETTING:  # a thread new to torch takes the default now
            threads = torch.get_num_threads()
        if self.device.type != "cpu" or threads == 1:
            return method(self, *args, **named)
        return DETECTORS.submit(method, self, *args, **named).result()

    return call


class FaceFinder:
    """Finds faces in pictures; raises ImportError, one sentence, without facenet-pytorch.

    On a CPU torch uses one core for a picture; the caller's number of threads stays as it is.

    `smallest` is the size of the smallest face looked for, as a share of the picture's
    longer side: halving it costs four times the work. Nor is it below `pixels` of the
    picture given: from fewer no expression is read. `least` is the score from which
    something counts as a face.
    """

    def __init__(
        self,
        smallest: float = 0.06,
        least: float = 0.85,
        device: torch.device | str = "cpu",
        detail: int = 640,
        pixels: int = 28,
    ) -> None:
        try:
            from facenet_pytorch.models.mtcnn import ONet, PNet, RNet
        except ImportError as error:
            raise ImportError(
                f"the face detector's weights are missing ({error}); "
                "python -m pip install facenet-pytorch==2.5.3"
            ) from error
        if not 0 < smallest <= 1:
            raise ValueError(f"smallest is {smallest}; it is a share of the picture, in (0, 1]")
        self.device = torch.device(device)
        # Networks draw random weights before they load theirs: a training must not notice.
        # channels_last: torch pools that way twice as fast on a CPU.
        with torch.random.fork_rng(devices=[]):
            self.nets = [
                net().to(self.device, memory_format=torch.channels_last).eval()
                for net in (PNet, RNet, ONet)
            ]
        self.smallest, self.least, self.detail, self.pixels = smallest, least, detail, pixels

    def find(self, image: Image.Image, tilted: bool = True) -> list[Face]:
        """All faces, the largest first. Where there is none, also tries the picture turned.

        `image` is "L" or "RGB", upright. `tilted=False` leaves out the second look, at
        ±40 degrees.
        """
        found = self.find_batch([image])[0]
        return found if found or not tilted else self.find_tilted(image)

    def find_tilted(self, image: Image.Image) -> list[Face]:
        """The second look, at the picture turned by ±40 degrees; it must be surer."""
        found: list[Face] = []
        scale = min(1.0, self.detail / max(image.size))  # turning a whole photo takes seconds
        size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
        small = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        angles = (40, -40)
        turned = self.find_batch([small.rotate(a, Image.Resampling.BILINEAR) for a in angles])
        for angle, faces in zip(angles, turned, strict=True):
            found += [turn_back(face, angle, size, scale) for face in faces]
        return largest_first(keep_best(f for f in found if f.score >= (2 + self.least) / 3))

    @on_one_core
    @torch.inference_mode()
    def find_batch(self, images: Sequence[Image.Image]) -> list[list[Face]]:
        """As `find` without the second look, several pictures in one pass of each network."""
        if not images:
            return []
        halves, scales = self.canvas(images)
        finest = min(max(self.smallest, self.pixels / max(max(i.size) for i in images)), 1.0)
        boxes, owner = self.propose(halves, finest)
        for stage, size, overlap in ((1, 24, 0.7), (2, 48, 0.7)):
            boxes, owner, points, scores = self.refine(halves, boxes, owner, stage, size)
            sure = scores >= (0.7 if stage == 1 else self.least)
            boxes, owner, points, scores = boxes[sure], owner[sure], points[sure], scores[sure]
            kept = batched_nms(boxes, scores, owner, overlap)
            boxes, owner, points, scores = boxes[kept], owner[kept], points[kept], scores[kept]
        answers: list[list[Face]] = [[] for _ in images]
        for box, who, eyes, score in zip(boxes, owner.tolist(), points, scores, strict=True):
            answers[who].append(as_face(box, eyes, float(score), scales[who]))
        return [largest_first(keep_best(faces)) for faces in answers]

    @on_one_core
    @torch.inference_mode()
    def follow(self, image: Image.Image, faces: Sequence[Face]) -> list[Face | None]:
        """Where faces of the last frame are now; None where there is no face any more.

        One pass of the last network, at the old places: some 20 times cheaper than `find`.
        A face may have moved by about a quarter of its size.
        """
        if not faces:
            return []
        halves, scales = self.canvas([image])
        boxes = torch.tensor([f.box for f in faces], dtype=torch.float32, device=self.device)
        boxes[:, 2:] += boxes[:, :2]
        boxes = squared(boxes * scales[0])
        owner = torch.zeros(len(boxes), dtype=torch.long, device=self.device)
        boxes, _, points, scores = self.refine(halves, boxes, owner, 2, 48)
        return [
            as_face(box, eyes, score, scales[0]) if score >= self.least else None
            for box, eyes, score in zip(boxes, points, scores.tolist(), strict=True)
        ]

    def canvas(self, images: Sequence[Image.Image]) -> tuple[list[Tensor], list[float]]:
        """Pictures scaled to `detail` at most, one above the other in (N, 3, H, W), and the scales.

        The list goes on with the same pictures at a half, a quarter, … of the size.
        """
        longest = [max(image.size) for image in images]
        common = min(self.detail, max(160, *longest))  # `smallest` is a share of each picture
        scales = [common / side for side in longest]
        pixels = []
        for image, scale in zip(images, scales, strict=True):
            size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
            small = image.convert("RGB")
            if size != image.size:
                small = small.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
            pixels.append(np.asarray(small))
        height, width = (max(max(p.shape[d] for p in pixels), CELL) for d in (0, 1))
        stack = np.full((len(pixels), height, width, 3), 127, np.uint8)
        for row, picture in zip(stack, pixels, strict=True):
            row[: picture.shape[0], : picture.shape[1]] = picture
        tensor = torch.from_numpy(stack).to(self.device).permute(0, 3, 1, 2).contiguous()
        halves = [(tensor.float() - 127.5) / 128]
        while min(halves[-1].shape[2:]) >= 2 * CELL:
            halves.append(F.avg_pool2d(halves[-1], 2, ceil_mode=True))
        return halves, scales

    def propose(self, halves: list[Tensor], finest: float) -> tuple[Tensor, Tensor]:
        """The first network over a pyramid of scales → squares (K, 4) and their picture (K,)."""
        height, width = halves[0].shape[2:]
        longer, shorter = max(height, width), min(height, width)
        side = min(max(CELL / finest, CELL * longer / shorter), longer)  # finest level's
        boxes, scores, owners = [], [], []
        while True:
            scale = side / longer
            if shorter * scale < CELL - 1e-3:
                break
            size = (max(round(height * scale), CELL), max(round(width * scale), CELL))
            move, probs = self.nets[0](shrink(halves, size))
            hit = (probs[:, 1] >= 0.6).nonzero()
            if len(hit):
                who, row, column = hit.T
                score = probs[who, 1, row, column]
                at = torch.stack([column, row], 1).float() * STRIDE
                box = torch.cat([at, at + CELL], 1) / scale
                box = box + move[who, :, row, column] * (CELL / scale)
                kept = batched_nms(box, score, who, 0.5)
                boxes.append(box[kept])
                scores.append(score[kept])
                owners.append(who[kept])
            side *= FACTOR
        if not boxes:
            return halves[0].new_zeros(0, 4), torch.zeros(0, dtype=torch.long, device=self.device)
        box, owner = torch.cat(boxes), torch.cat(owners)
        kept = batched_nms(box, torch.cat(scores), owner, 0.7)
        return squared(box[kept]), owner[kept]

    def refine(
        self, halves: list[Tensor], boxes: Tensor, owner: Tensor, stage: int, size: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A later network looks at squares: better boxes, their picture, eyes (K, 2, 2), scores."""
        if not len(boxes):
            return boxes, owner, boxes.new_zeros(0, 2, 2), boxes.new_zeros(0)
        move, *points, probs = self.nets[stage](patches(halves, boxes, owner, size))
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        better = boxes + move * sides
        if stage == 1:
            return squared(better), owner, boxes.new_zeros(len(boxes), 2, 2), probs[:, 1]
        marks = points[0].view(-1, 2, 5).transpose(1, 2)  # x of five points, then their y
        eyes = boxes[:, None, :2] + marks[:, :2] * sides[:, None, :2]
        return better, owner, eyes, probs[:, 1]


def patches(halves: list[Tensor], boxes: Tensor, owner: Tensor, size: int) -> Tensor:
    """Squares (K, 4) of the pictures, as (K, 3, size, size).

    Each is cut where the pictures are small enough for four samples a pixel: averaging over
    all pixels of a large face would cost more than the network that looks at it.
    """
    side = (boxes[:, 2] - boxes[:, 0]).clamp(min=1)
    level = (side / (2 * size)).log2().ceil().clamp(0, len(halves) - 1).long()
    cut_out = halves[0].new_empty(len(boxes), 3, size, size)
    for step in level.unique().tolist():
        here = level == step
        rois = torch.cat([owner[here, None].to(boxes), boxes[here] / 2**step], 1)
        cut_out[here] = roi_align(halves[step], rois, size, sampling_ratio=2, aligned=True)
    return cut_out


def shrink(halves: list[Tensor], size: tuple[int, int]) -> Tensor:
    """The pictures at a size (H, W), from the smallest of them that is no smaller."""
    enough = [h for h in halves if h.shape[2] >= size[0] and h.shape[3] >= size[1]]
    if enough[-1].shape[2:] == size:
        return enough[-1]
    return F.interpolate(enough[-1], size, mode="bilinear", align_corners=False)


def squared(boxes: Tensor) -> Tensor:
    """Corners (K, 4) → squares around the same centres, as large as the longer side."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    return torch.cat([centre - half, centre + half], 1)


def as_face(corners: Tensor, eyes: Tensor, score: float, scale: float) -> Face:
    left, top, right, bottom = (corners / scale).tolist()
    (x0, y0), (x1, y1) = eyes.tolist()
    tilt = math.degrees(math.atan2(y1 - y0, x1 - x0))
    box = (round(left), round(top), max(round(right - left), 1), max(round(bottom - top), 1))
    return Face(box, score, tilt)


def overlap(one: Box, other: Box) -> float:
    """Intersection over the smaller box, in [0, 1]."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0) / max(min(one[2] * one[3], other[2] * other[3]), 1)


def keep_best(faces: Iterable[Face]) -> list[Face]:
    """Faces inside one another count once."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: -f.score):
        if all(overlap(face.box, other.box) < 0.6 for other in kept):
            kept.append(face)
    return kept


def largest_first(faces: Iterable[Face]) -> list[Face]:
    return sorted(faces, key=lambda f: -f.box[2] * f.box[3])


def turn_back(face: Face, angle: float, size: tuple[int, int], scale: float = 1.0) -> Face:
    """A face found in a picture of `size` turned by `angle` degrees, in the picture as it was.

    `scale` is how much smaller that picture was made before.
    """
    x, y, width, height = face.box
    a = math.radians(angle)
    dx, dy = x + width / 2 - size[0] / 2, y + height / 2 - size[1] / 2
    cx = size[0] / 2 + dx * math.cos(a) - dy * math.sin(a)
    cy = size[1] / 2 + dx * math.sin(a) + dy * math.cos(a)
    box = (cx - width / 2, cy - height / 2, width, height)
    return replace(face, box=tuple(round(v / scale) for v in box), tilt=face.tilt + angle)


def measure_crop(
    pictures: Iterable[Image.Image], finder: FaceFinder | None = None, most: int = 200
) -> CropRule:
    """The crop of a data set of single faces: medians over its first `most` pictures.

    Pictures without a face, or with several, are passed over; where that leaves less than
    a third, the default rule comes back, with `measured=0`.
    """
    finder = finder or FaceFinder(smallest=0.3, pixels=0)
    seen, places = 0, []
    for image in pictures:
        if seen == most:
            break
        seen += 1
        faces = finder.find_batch([image])[0]
        if len(faces) == 1:
            (x, y, width, height), (w, h) = faces[0].box, image.size
            share = math.sqrt(width * height / (w * h))
            places.append(((x + width / 2) / w, (y + height / 2) / h, share))
    if len(places) < max(seen / 3, 1):
        return CropRule()
    x, y, size = (round(median(values), 3) for values in zip(*places, strict=True))
    return CropRule(x, y, size, measured=len(places))


if __name__ == "__main__":
    from skimage.data import astronaut

    picture = Image.fromarray(astronaut())
    face = FaceFinder().find(picture)[0]
    print(f"{picture.size[0]} x {picture.size[1]} picture: a face at {face.box}, {face.score:.2f}")
    print(f"cropped as a training set was: {CropRule()(picture, face.box, face.tilt).size}")
