"""Where a checkpoint's network looks at single faces, as pictures for the demo."""

from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image

from expression.preprocessing import Preprocess
from lab import models
from lab.gradcam import grad_cam, last_layer, overlay

__all__ = ["face_maps"]

SHOWN = 240  # pixels of a picture's side


@lru_cache(maxsize=2)
def _loaded(checkpoint: Path, changed: float) -> tuple[torch.nn.Module, Preprocess]:
    """Network and preprocessing of a file; `changed` (its time) makes a new export count."""
    model, card = models.restore_checkpoint(checkpoint)
    return model.eval(), Preprocess(**card["preprocess"])


def face_maps(checkpoint: Path, crops: Sequence[Image.Image]) -> list[Image.Image]:
    """Grad-CAM of the answer over each face crop.

    Raises ValueError for a network without a layer whose output is a map, such as an SVM.
    """
    model, rule = _loaded(checkpoint, checkpoint.stat().st_mtime)
    own = deepcopy(model)  # Grad-CAM's hooks must not meet another visitor's face
    batch = torch.from_numpy(rule.batch(crops))
    maps = grad_cam(own, batch, last_layer(own, batch, smallest=5))
    pictures = []
    for crop, heat in zip(crops, maps, strict=True):
        pixels = rule.pixels(crop)
        pixels = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
        shown = Image.fromarray(overlay(pixels, heat))
        pictures.append(shown.resize((SHOWN, SHOWN), Image.Resampling.BICUBIC))
    return pictures
