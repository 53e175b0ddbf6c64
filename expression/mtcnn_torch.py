"""MTCNN's three networks as a cascade over pictures and scales, in torch.

Why a cascade of our own: it takes several pictures and all scales in one batch, and its last
network alone can follow a face from one frame to the next. The only file of this package that
needs torch; it is imported when the first face is looked for.
Source: the networks and their weights are those of facenet-pytorch 2.5.3 (MIT).
"""

import functools
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.ops import batched_nms, roi_align

from expression.faces import Face, keep_best, largest_first

__all__ = ["Cascade"]

CELL, STRIDE, FACTOR = 12, 2, 0.709  # of the first network; the pyramid's step


LOCK = threading.Lock()


def use_one_core() -> None:
    """For a new Python thread: torch computes on one core there, and as before elsewhere.

    `torch.set_num_threads` changes the calling thread and the default of threads that have
    not used torch yet. So the default is put back, by a thread of its own: no other thread's
    setting is touched.
    """
    with LOCK:  # two new threads at once would take each other's 1 for the default
        default = torch.get_num_threads()  # before `set`: a thread's first call takes the default
        torch.set_num_threads(1)
        restore = threading.Thread(target=torch.set_num_threads, args=(default,))
        restore.start()
        restore.join()


DETECTORS = ThreadPoolExecutor(os.cpu_count() or 1, "detector", initializer=use_one_core)


def on_one_core(method: Callable[..., Any]) -> Callable[..., Any]:
    """Run a method in a thread in which torch uses one core.

    The networks are so small that sharing out one picture gains little on an idle machine, and
    on a busy one each of some hundred operations waits for the slower thread. Several callers
    are answered at once, on different cores.
    """

    @functools.wraps(method)
    def call(*args: Any) -> Any:
        with LOCK:  # a thread new to torch takes the default now
            threads = torch.get_num_threads()
        if threads == 1:
            return method(*args)
        return DETECTORS.submit(method, *args).result()

    return call


class Cascade:
    """The networks with their weights; raises ImportError, one sentence, without the package.

    `smallest`, `least`, `detail` and `pixels` are those of `FaceFinder`.
    """

    def __init__(self, smallest: float, least: float, detail: int, pixels: int) -> None:
        try:
            from facenet_pytorch.models.mtcnn import ONet, PNet, RNet
        except ImportError as error:
            raise ImportError(
                f"the face detector's weights are missing ({error}); "
                "python -m pip install facenet-pytorch==2.5.3"
            ) from error
        # Networks draw random weights before they load theirs: a training must not notice.
        # channels_last: torch pools that way twice as fast on a CPU.
        with torch.random.fork_rng(devices=[]):
            self.nets = [
                net().to(memory_format=torch.channels_last).eval() for net in (PNet, RNet, ONet)
            ]
        self.smallest, self.least, self.detail, self.pixels = smallest, least, detail, pixels

    @on_one_core
    @torch.inference_mode()
    def find_batch(self, images: Sequence[Image.Image]) -> list[list[Face]]:
        """As `find` without the second look, several pictures in one pass of each network."""
        pyramid, scales = self.canvas(images)
        finest = min(max(self.smallest, self.pixels / max(max(i.size) for i in images)), 1.0)
        boxes, image_index = self.propose(pyramid, finest)
        for stage, size, overlap in ((1, 24, 0.7), (2, 48, 0.7)):
            boxes, image_index, points, scores = self.refine(
                pyramid, boxes, image_index, stage, size
            )
            sure = scores >= (0.7 if stage == 1 else self.least)
            boxes, image_index, points, scores = (
                boxes[sure],
                image_index[sure],
                points[sure],
                scores[sure],
            )
            kept = batched_nms(boxes, scores, image_index, overlap)
            boxes, image_index, points, scores = (
                boxes[kept],
                image_index[kept],
                points[kept],
                scores[kept],
            )
        answers: list[list[Face]] = [[] for _ in images]
        for box, who, eyes, score in zip(boxes, image_index.tolist(), points, scores, strict=True):
            answers[who].append(as_face(box, eyes, float(score), scales[who]))
        return [largest_first(keep_best(faces)) for faces in answers]

    @on_one_core
    @torch.inference_mode()
    def follow(self, image: Image.Image, faces: Sequence[Face]) -> list[Face | None]:
        """Where faces of the last frame are now; None where there is no face any more.

        One pass of the last network, at the old places: some 20 times cheaper than `find`.
        A face may have moved by about a quarter of its size.
        """
        pyramid, scales = self.canvas([image])
        boxes = torch.tensor([f.box for f in faces], dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        boxes = squared(boxes * scales[0])
        image_index = torch.zeros(len(boxes), dtype=torch.long)
        boxes, _, points, scores = self.refine(pyramid, boxes, image_index, 2, 48)
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
        tensor = torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()
        pyramid = [(tensor.float() - 127.5) / 128]
        while min(pyramid[-1].shape[2:]) >= 2 * CELL:
            pyramid.append(F.avg_pool2d(pyramid[-1], 2, ceil_mode=True))
        return pyramid, scales

    def propose(self, pyramid: list[Tensor], finest: float) -> tuple[Tensor, Tensor]:
        """The first network over a pyramid of scales → squares (K, 4) and their picture (K,)."""
        height, width = pyramid[0].shape[2:]
        longer, shorter = max(height, width), min(height, width)
        side = min(max(CELL / finest, CELL * longer / shorter), longer)  # finest level's
        boxes, scores, image_indices = [], [], []
        while True:
            scale = side / longer
            if shorter * scale < CELL - 1e-3:
                break
            size = (max(round(height * scale), CELL), max(round(width * scale), CELL))
            move, probs = self.nets[0](shrink(pyramid, size))
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
                image_indices.append(who[kept])
            side *= FACTOR
        if not boxes:
            return pyramid[0].new_zeros(0, 4), torch.zeros(0, dtype=torch.long)
        box, image_index = torch.cat(boxes), torch.cat(image_indices)
        kept = batched_nms(box, torch.cat(scores), image_index, 0.7)
        return squared(box[kept]), image_index[kept]

    def refine(
        self, pyramid: list[Tensor], boxes: Tensor, image_index: Tensor, stage: int, size: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A later network looks at squares: better boxes, their picture, eyes (K, 2, 2), scores."""
        if not len(boxes):
            return boxes, image_index, boxes.new_zeros(0, 2, 2), boxes.new_zeros(0)
        move, *points, probs = self.nets[stage](patches(pyramid, boxes, image_index, size))
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        better = boxes + move * sides
        if stage == 1:
            return squared(better), image_index, boxes.new_zeros(len(boxes), 2, 2), probs[:, 1]
        marks = points[0].view(-1, 2, 5).transpose(1, 2)  # x of five points, then their y
        eyes = boxes[:, None, :2] + marks[:, :2] * sides[:, None, :2]
        return better, image_index, eyes, probs[:, 1]


def patches(pyramid: list[Tensor], boxes: Tensor, image_index: Tensor, size: int) -> Tensor:
    """Squares (K, 4) of the pictures, as (K, 3, size, size).

    Each is cut where the pictures are small enough for four samples a pixel: averaging over
    all pixels of a large face would cost more than the network that looks at it.
    """
    side = (boxes[:, 2] - boxes[:, 0]).clamp(min=1)
    level = (side / (2 * size)).log2().ceil().clamp(0, len(pyramid) - 1).long()
    cut_out = pyramid[0].new_empty(len(boxes), 3, size, size)
    for step in level.unique().tolist():
        here = level == step
        rois = torch.cat([image_index[here, None].to(boxes), boxes[here] / 2**step], 1)
        cut_out[here] = roi_align(pyramid[step], rois, size, sampling_ratio=2, aligned=True)
    return cut_out


def shrink(pyramid: list[Tensor], size: tuple[int, int]) -> Tensor:
    """The pictures at a size (H, W), from the smallest of them that is no smaller."""
    enough = [h for h in pyramid if h.shape[2] >= size[0] and h.shape[3] >= size[1]]
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
