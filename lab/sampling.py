"""Weighted sampling: rare classes are shown more often, and the loss stays as it is.

Source: written for this project; the power between 0 and 1: Mahajan et al. 2018, arXiv:1805.00932.
Needs only torch; copy freely (MIT, see LICENSE).
"""

import torch
from torch import Tensor

__all__ = ["class_sampling_weights", "weighted_order"]


def class_sampling_weights(labels: Tensor, power: float) -> Tensor:
    """Labels (N,) → how often each face is shown, relative to the others: (N,), with mean 1.

    A class of n faces is shown in proportion to n^(1 - power): with 0 as often as it occurs, with
    1 as often as every other class. A face of each class weighs n^(-power).
    """
    weights = torch.bincount(labels).double().pow(-power)[labels]
    return (weights / weights.mean()).float()


def weighted_order(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Indices (N,) in random order; index k comes N · weights[k] / sum times, rounded up or down.

    Which way it is rounded is random, and the mean is exact (systematic sampling; Madow 1949).
    Independent draws, as `torch.utils.data.WeightedRandomSampler` makes them, would leave out 37 %
    of the pictures in each pass even where all weights are equal; this leaves out none of those.
    """
    order = torch.randperm(len(weights), generator=generator)
    ends = weights.double()[order].cumsum(0)
    ends = ends * (len(weights) / ends[-1])  # the picture order[k] owns the numbers up to ends[k]
    marks = torch.arange(len(weights)) + torch.rand((), generator=generator).double()
    drawn = order[torch.searchsorted(ends, marks).clamp(max=len(weights) - 1)]
    return drawn[torch.randperm(len(weights), generator=generator)]
