"""One face of a picture with its answer: what every part of this package hands on.

An answer whose largest probability lies below the checkpoint's threshold is shown as "not sure".
`is_sure` is the only place that compares the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

__all__ = [
    "NOT_SURE",
    "Box",
    "FacePrediction",
    "check_min_confidence",
    "enlarged",
    "is_sure",
    "ranked",
    "softmax",
]

Box = tuple[int, int, int, int]  # x, y, width, height in pixels
NOT_SURE = "not sure"
AnyFace = TypeVar("AnyFace", bound=Any)  # has a box


@dataclass(frozen=True)
class FacePrediction:
    """A face and its probabilities in [0, 1] by class name, the most likely first."""

    box: Box  # in pixels of the picture; may extend beyond its edges
    probs: dict[str, float]
    score: float = 1.0  # of the detector, in [0, 1]
    tilt: float = 0.0  # degrees
    track: int | None = None  # number of the face in a video, from 1
    min_confidence: float = 0.0  # smallest probability that names an expression; 0: any does

    @property
    def expression(self) -> str:
        """The most likely class, sure or not."""
        return next(iter(self.probs))

    @property
    def confidence(self) -> float:
        """The probability of the most likely class."""
        return next(iter(self.probs.values()))

    @property
    def sure(self) -> bool:
        """Whether the most likely class reaches `min_confidence`."""
        return is_sure(self.confidence, self.min_confidence)

    @property
    def label(self) -> str:
        """The word to show: the most likely class, or "not sure"."""
        return self.expression if self.sure else NOT_SURE


def enlarged(face: AnyFace, times: float) -> AnyFace:
    """The same face in a picture `times` as large; its box is rounded to pixels."""
    return face if times == 1 else replace(face, box=tuple(round(v * times) for v in face.box))


def is_sure(confidence: float, min_confidence: float) -> bool:
    """Whether a largest probability is enough to name an expression; with 0 it always is."""
    return min_confidence == 0 or confidence >= min_confidence


def check_min_confidence(value: float, name: str = "min_confidence") -> float:
    """The threshold itself. Raises ValueError, which calls it `name`, unless it is in [0, 1)."""
    if not 0 <= value < 1:  # written so that a NaN is refused
        raise ValueError(f"{name} is {value:g}; it must be at least 0 (always sure) and below 1")
    return float(value)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits (N, num_classes) → probabilities of the same shape, float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def ranked(probs: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
    """Probabilities (num_classes,) by class name, the most likely first."""
    order = np.argsort(-probs, kind="stable")
    return {class_names[i]: float(probs[i]) for i in order}
