"""Where a network looks, without torch: cover a part of the face, and see how the answer changes.

Where the probability of the answer falls most, the network saw most of what it answers by. The
method is the occlusion map of Zeiler and Fergus (2014, arXiv 1311.2901): 49 passes of the network
a face, in one batch. Grad-CAM (`lab/gradcam.py`), which needs torch, shows finer detail.
"""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from expression.preprocessing import Preprocess

__all__ = ["occlusion", "occlusion_maps"]

STEPS = 7  # places of the cover along a side
COVER = 0.25  # of the side
SHOWN = 240  # pixels of a picture's side
WEIGHT = 0.45  # of the colour over the picture
# Eight colours of matplotlib's "inferno": brightness rises with the value
HEAT = np.array([(0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99), (212, 72, 66),
                 (245, 125, 21), (250, 193, 39), (252, 255, 164)], float)  # fmt: skip
Probabilities = Callable[[np.ndarray], np.ndarray]  # images (N, C, H, W) → (N, num_classes)


def occlusion(image: np.ndarray, probabilities: Probabilities) -> np.ndarray:
    """Network input (C, H, W) → (H, W): how far the answer's probability falls, at least 0.

    A square of the picture's mean covers one place after the other; each pixel gets the mean of the
    falls of all squares that cover it.
    """
    _, height, width = image.shape
    size = max(round(COVER * height), 1), max(round(COVER * width), 1)
    tops = np.linspace(0, height - size[0], STEPS).round().astype(int)
    lefts = np.linspace(0, width - size[1], STEPS).round().astype(int)
    squares = [np.s_[top : top + size[0], left : left + size[1]] for top in tops for left in lefts]
    batch = np.repeat(image[None], len(squares) + 1, axis=0)
    for covered, square in zip(batch[1:], squares, strict=True):
        covered[(slice(None), *square)] = image.mean(axis=(1, 2), keepdims=True)
    probs = probabilities(batch)
    falls = probs[0].max() - probs[1:, probs[0].argmax()]
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for square, fall in zip(squares, falls, strict=True):
        total[square] += fall
        count[square] += 1
    return (total / count.clip(1)).clip(0)


def occlusion_maps(
    crops: Sequence[Image.Image], rule: Preprocess, probabilities: Probabilities
) -> list[Image.Image]:
    """The map of each face crop over the pixels that the network reads."""
    pictures = []
    for crop in crops:
        fall = occlusion(rule(crop), probabilities)
        heat = Image.fromarray((fall / max(fall.max(), 1e-12)).astype(np.float32))
        heat = heat.resize((2 * STEPS, 2 * STEPS), Image.Resampling.BOX)  # without its edges
        values = np.asarray(heat.resize((SHOWN, SHOWN), Image.Resampling.BICUBIC)).clip(0, 1)
        stops = np.linspace(0, 1, len(HEAT))
        colour = np.stack([np.interp(values, stops, band) for band in HEAT.T], axis=-1)
        pixels = rule.pixels(crop)  # (bands, H, W)
        seen = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        seen = seen.convert("RGB").resize((SHOWN, SHOWN), Image.Resampling.BICUBIC)
        over = Image.fromarray(colour.round().astype(np.uint8))
        pictures.append(Image.blend(seen, over, WEIGHT))
    return pictures
