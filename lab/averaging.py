"""Averaged weights: the mean of a network's last steps, which is steadier than any one of them."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from hf_collate import Batches
from lab.data import subset_indices

__all__ = ["moving_average", "statistics_batches"]


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of a network's weights, taken up step by step.

    The first steps weigh less, (1 + n) / (10 + n) at most: with a fixed decay near 1 the random
    start would stay in it for thousands of steps.
    """

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        share = 1 - ((1 + count) / (10 + count)).clamp(max=decay)
        for mean, now in zip(averaged, current, strict=True):
            mean.lerp_(now, share.to(mean.dtype))

    return AveragedModel(model, multi_avg_fn=update)


def statistics_batches(loader: Batches, count: int = 2048) -> Batches:
    """Training pictures as they are in use, for the BatchNorm statistics of averaged weights.

    Averaged buffers would be free, but they come from turned, blended and smaller pictures. With
    2,048 faces the mean over a map's places is known well, for a few seconds an epoch. All batches
    have the same number of faces, since each counts as much as any other.
    """
    size = 256
    count = min(count, len(loader.rows))
    if count > size:
        count -= count % size
    rows = loader.rows[subset_indices(len(loader.rows), count)]
    return Batches(loader.data, size, device=loader.device, indices=rows, resident_bytes=0)
