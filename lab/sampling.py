"""Weighted sampling: rare classes are shown more often, and the loss stays as it is.

Source: written for this project; the power between 0 and 1: Mahajan et al. 2018, arXiv:1805.00932.
Needs only torch; copy freely (MIT, see LICENSE).
"""

import torch
from torch import Tensor

__all__ = ["class_sampling_weights"]


def class_sampling_weights(labels: Tensor, power: float) -> Tensor:
    """Labels (N,) → how often each face is shown, relative to the others: (N,), with mean 1.

    A class of n faces is shown in proportion to n^(1 - power): with 0 as often as it occurs, with
    1 as often as every other class. A face of each class weighs n^(-power).
    """
    weights = torch.bincount(labels).double().pow(-power)[labels]
    return (weights / weights.mean()).float()
