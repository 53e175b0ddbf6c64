"""How the one answer of a network with several heads is made, chosen on validation by a fixed rule.

Why: FER2013's labels and a crowd name another expression for one face in three, so no answer is
best for both, and none of them says how a network does on faces from elsewhere. A rule that is
written down before any figure is seen keeps the choice from being made for the best-looking one.

The rule. For weights of the heads in steps of a quarter that add up to 1, and a prior correction
of 0, 0.25 or 0.5, there are two validation figures: accuracy for the data set's labels, and for the
majority of the crowd; and for each further data set one more: mean recall on its validation split,
for Muxspace without disgust, whose pictures nobody could name. Chosen is the point with the highest
mean of these figures among those with at least 66 % for the labels and 83 % for the majority.
Where no point keeps both bounds, it is the one with the highest mean, and the card says so. Ties go
to the smaller correction, then to the more even weights.

Only validation is looked at. `lab.calibrated_checkpoint` writes the choice into a new card.
Source: written for this project.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from expression.preprocessing import Preprocess
from hf_collate import Batches, Decoded
from lab import metrics
from lab.class_names import UNCERTAIN
from lab.data import Faces, Relabelled
from lab.heads import CombinedAnswer

__all__ = [
    "LABEL_BOUND",
    "MAJORITY_BOUND",
    "RULE",
    "HeadLogits",
    "Way",
    "choose",
    "grid",
    "head_logits",
    "ways_of",
]

STEPS = 4  # of a weight from 0 to 1
CORRECTIONS = (0.0, 0.25, 0.5)
LABEL_BOUND, MAJORITY_BOUND = 0.66, 0.83
RULE = (
    "highest mean of the validation figures among answers with label accuracy >= "
    f"{LABEL_BOUND} and majority accuracy >= {MAJORITY_BOUND}, or of all where none has both; "
    "ties: smaller prior correction, then more even weights"
)


@dataclass(frozen=True)
class Way:
    """One way to make the answer, and its validation figures in [0, 1]."""

    weights: dict[str, float]  # of each head
    prior_correction: float
    label: float
    majority: float
    elsewhere: tuple[float, ...] = ()  # mean recall on each further data set

    @property
    def mean(self) -> float:
        figures = (self.label, self.majority, *self.elsewhere)
        return math.fsum(figures) / len(figures)

    @property
    def within_bounds(self) -> bool:
        return self.label >= LABEL_BOUND and self.majority >= MAJORITY_BOUND

    def __str__(self) -> str:
        words = ", ".join(f"{head} {weight:g}" for head, weight in self.weights.items() if weight)
        return f"{words}, prior correction {self.prior_correction:g}"


def grid(heads: Sequence[str]) -> Iterator[tuple[dict[str, float], float]]:
    """Every point of the rule: (weights of the heads, prior correction)."""
    for parts in product(range(STEPS, -1, -1), repeat=len(heads)):
        if sum(parts) == STEPS:
            for correction in CORRECTIONS:
                shares = (part / STEPS for part in parts)
                yield dict(zip(heads, shares, strict=True)), correction


def choose(ways: Sequence[Way]) -> int:
    """The place of the way that the rule takes."""
    allowed = [n for n, way in enumerate(ways) if way.within_bounds] or range(len(ways))

    def rank(number: int) -> tuple[float, float, float]:
        way = ways[number]
        uneven = sum(weight**2 for weight in way.weights.values())
        return round(way.mean, 9), -way.prior_correction, -uneven

    return max(allowed, key=rank)


# --- figures ---


class AllHeads(nn.Module):
    """A network that gives the logits of all its heads in eval mode too, (N, heads · classes)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.forward(images)  # not the call, whose hook makes them one answer


def validation_rows(faces: Faces, rule: Preprocess) -> Decoded:
    """The validation split alone, decoded: whatever comes after cannot look at the test split."""
    source = faces.original if isinstance(faces, Relabelled) else faces
    rows = type(source.splits)({"validation": source.splits["validation"]})
    only = replace(source, splits=rows)
    if isinstance(faces, Relabelled):
        only = replace(faces, original=only)
    return only.decoded(rule)["validation"]


@dataclass(frozen=True)
class HeadLogits:
    """What a network's heads say of validation faces, from which every answer can be made."""

    logits: Tensor  # (n, heads · classes)
    labels: Tensor  # (n,)
    priors: dict[str, list[float]]

    def answer(self, weights: dict[str, float], prior_correction: float) -> Tensor:
        """Logits (n, classes) of the answer that a card with these values gives."""
        return CombinedAnswer(weights, self.priors, prior_correction).combine(self.logits)


def head_logits(
    model: nn.Module, card: dict[str, Any], rule: Preprocess, faces: Faces, device: torch.device
) -> HeadLogits:
    """One pass over the validation split; classes are joined by name and may be only some."""
    rows = validation_rows(faces, rule)
    logits, labels = metrics.collect(AllHeads(model), Batches(rows, 128, device=device), device)
    return HeadLogits(logits, labels, card.get("priors", {}))


def share_right(preds: Tensor, truth: Tensor) -> float:
    """Of the faces whose truth is known (not −1). Raises ValueError where there is none."""
    known = truth >= 0
    if not known.any():
        raise ValueError("no validation face has a majority of votes")
    return (preds == truth)[known].double().mean().item()


def mean_recall(preds: Tensor, labels: Tensor, class_names: Sequence[str], data: str) -> float:
    """Over the classes that have faces, without those of UNCERTAIN; in [0, 1].

    Raises ValueError where no class is left.
    """
    left_out = [class_names.index(n) for n in UNCERTAIN.get(data, ()) if n in class_names]
    classes = [k for k in labels.unique().tolist() if k not in left_out]
    if not classes:
        raise ValueError(f"{data} has no validation face of a class that counts")
    recalls = [(preds == k)[labels == k].double().mean().item() for k in classes]
    return math.fsum(recalls) / len(recalls)


def ways_of(
    own: HeadLogits, crowd: Tensor, further: Mapping[str, HeadLogits], card: dict[str, Any]
) -> list[Way]:
    """Every point of the grid with its figures. Corrections need the card's `priors`; a card
    without them (one of an earlier version) is tried without a correction."""
    heads, names = list(card.get("heads", {"label": 1.0})), card["class_names"]
    found = []
    for weights, correction in grid(heads):
        if correction and not set(heads) <= own.priors.keys():
            continue
        preds = own.answer(weights, correction).argmax(1)
        elsewhere = (
            mean_recall(each.answer(weights, correction).argmax(1), each.labels, names, data)
            for data, each in further.items()
        )
        figures = share_right(preds, own.labels), share_right(preds, crowd)
        found.append(Way(weights, correction, *figures, tuple(elsewhere)))
    return found
