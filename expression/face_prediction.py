"""One face of a picture with its answer: what every part of this package hands on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Box", "FacePrediction", "ranked", "softmax"]

Box = tuple[int, int, int, int]  # x, y, width, height in pixels


@dataclass(frozen=True)
class FacePrediction:
    """A face and its probabilities in [0, 1] by class name, the most likely first."""

    box: Box  # in pixels of the picture; may extend beyond its edges
    probs: dict[str, float]
    score: float = 1.0  # of the detector, in [0, 1]
    tilt: float = 0.0  # degrees
    track: int | None = None  # number of the face in a video, from 1

    @property
    def expression(self) -> str:
        """The most likely class."""
        return next(iter(self.probs))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits (N, num_classes) → probabilities of the same shape, float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def ranked(probs: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
    """Probabilities (num_classes,) by class name, the most likely first."""
    order = np.argsort(-probs, kind="stable")
    return {class_names[i]: float(probs[i]) for i in order}
