"""What a crowd said of each face: votes as probabilities by class name, and the majority.

Why: FER+ has ten people's votes a face, in an order and with words of its own (happiness, sadness,
anger). Here they meet a data set's classes by name, so that no column is taken for another.
Source: written for this project; the majority rule: Barsoum et al. 2016, arXiv:1608.01041.
Needs only torch; copy freely (MIT, see LICENSE).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["crowd_figures", "known_majority", "leave_one_out", "majority", "vote_shares"]

SYNONYMS = {"happiness": "happy", "sadness": "sad", "anger": "angry"}
NOT_EXPRESSIONS = ("unknown", "NF")  # NF: no face


def columns_of(vote_names: Sequence[str], class_names: Sequence[str]) -> list[int]:
    """The column of the votes for each class. Raises ValueError for a class nobody could vote."""
    known = [SYNONYMS.get(name, name) for name in vote_names]
    if missing := [name for name in class_names if name not in known]:
        raise ValueError(f"no votes for the class {', '.join(missing)}; voters chose among {known}")
    return [known.index(name) for name in class_names]


def vote_shares(counts: Tensor, vote_names: Sequence[str], class_names: Sequence[str]) -> Tensor:
    """Votes (N, len(vote_names)) → probabilities (N, classes) float32 over the data set's classes.

    Votes for anything else (contempt, unknown, no face) are dropped and the others renormalised;
    a face with no votes left has a row of zeros.
    """
    votes = counts[:, columns_of(vote_names, class_names)].float()
    return votes / votes.sum(1, keepdim=True).clamp(min=1)


def majority(counts: Tensor, vote_names: Sequence[str], class_names: Sequence[str]) -> Tensor:
    """Votes (N, len(vote_names)) → class index (N,) of FER+'s majority rule.

    Single votes are set to 0; an expression needs more than half of the votes left, those for
    unknown and NF included. -1 where there is none; len(class_names) where the majority names an
    expression that the data set lacks (contempt).
    """
    index = torch.full((len(vote_names) + 1,), len(class_names))
    index[columns_of(vote_names, class_names)] = torch.arange(len(class_names))
    index[-1] = -1
    return index[majority_column(counts, vote_names)]


def majority_column(counts: Tensor, vote_names: Sequence[str]) -> Tensor:
    """Votes (N, len(vote_names)) → column (N,) of the expression with the majority, -1 without."""
    kept = torch.where(counts > 1, counts, 0).long()
    top = kept.argmax(1)
    others = [k for k, name in enumerate(vote_names) if name in NOT_EXPRESSIONS]
    clear = (2 * kept.amax(1) > kept.sum(1)) & ~torch.isin(top, torch.tensor(others))
    return torch.where(clear, top, -1)


def leave_one_out(counts: Tensor, vote_names: Sequence[str]) -> Tensor:
    """How one voter names the majority of the others: counts (N, k, k) int64, for each face.

    Row: the majority of the other votes by the rule of `majority`; column: what the voter said.
    Each vote is left out once, so the sum over faces is exact, with nothing drawn at random. A
    voter without whom the others have no majority for an expression counts in no row.
    """
    votes = counts.long()
    told = torch.zeros(*votes.shape, votes.shape[1], dtype=torch.int64)
    faces = torch.arange(len(votes))
    for column in range(votes.shape[1]):
        others = votes.clone()
        others[:, column] -= 1
        top = majority_column(others.clamp(min=0), vote_names)
        chosen = (votes[:, column] > 0) & (top >= 0)
        told[faces[chosen], top[chosen], column] = votes[chosen, column]
    return told


def known_majority(counts: Tensor, vote_names: Sequence[str], class_names: Sequence[str]) -> Tensor:
    """As `majority`, and -1 too where it names an expression that the data set lacks."""
    top = majority(counts, vote_names, class_names)
    return torch.where(top < len(class_names), top, -1)


def crowd_figures(
    logits: Tensor, counts: Tensor, vote_names: Sequence[str], class_names: Sequence[str]
) -> dict[str, Any]:
    """How logits (N, classes) agree with the crowd's votes (N, len(vote_names)).

    `majority`: right answers k of the n faces with a majority among the data set's classes;
    `majority_8`: of those with any majority, contempt included (the official rule), which a network
    without that class always misses; `cross_entropy`: in nats, with the shares of the votes as
    targets, over faces that have votes.
    """
    top, preds = majority(counts, vote_names, class_names), logits.argmax(1)
    known, any_majority = (top >= 0) & (top < len(class_names)), top >= 0
    told: dict[str, Any] = {}
    for name, chosen in (("majority", known), ("majority_8", any_majority)):
        k, n = int((preds == top)[chosen].sum()), int(chosen.sum())
        told[name] = {"k": k, "n": n, "accuracy": k / n if n else None}
    shares = vote_shares(counts, vote_names, class_names)
    voted = shares.sum(1) > 0
    losses = -(shares * logits.float().log_softmax(1)).sum(1)[voted]
    return told | {"cross_entropy": losses.mean().item() if voted.any() else None}
