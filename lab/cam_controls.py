"""Controls for Grad-CAM: what would its map look like if it meant nothing?

Why: a map over a face always looks as if it explained something. These controls ask whether it
depends on what was learnt (weights drawn anew), whether it follows the face (a moved picture), and
whether the places that it names matter to the answer (cover them, and as many others).
Sources: sanity checks, Adebayo et al. 2018 (arXiv:1810.03292); covering the most important pixels,
Samek et al. 2017 (arXiv:1509.06321). Written for this project.
Needs only torch; copy freely (MIT, see LICENSE).
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

__all__ = ["agreement", "cover", "highest", "move", "with_random_weights"]


def with_random_weights(model: nn.Module, seed: int = 0) -> nn.Module:
    """A copy with every weight drawn anew from a normal distribution of the same mean and standard
    deviation, tensor by tensor; BatchNorm's statistics stay. The model itself is not changed."""
    copy, draw = deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in copy.parameters():
            noise = torch.randn(weight.shape, generator=draw).to(weight)
            spread = weight.std() if weight.numel() > 1 else weight.abs().mean()
            weight.copy_(weight.mean() + spread * noise)
    return copy


def agreement(one: Tensor, other: Tensor) -> Tensor:
    """Correlation (N,) of the maps (N, H, W) of two networks or pictures, -1 to 1; 0 for a map
    without any difference between places."""
    a, b = (maps.flatten(1).double() for maps in (one, other))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    scale = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(scale > 1e-9, (a * b).sum(1) / scale.clamp(min=1e-9), 0.0)


def highest(values: Tensor, share: float) -> Tensor:
    """bool (N, H, W): the `share` of places with the highest values of each map (N, H, W)."""
    count = max(1, round(share * values[0].numel()))
    places = values.flatten(1).topk(count, dim=1).indices
    found = torch.zeros_like(values.flatten(1), dtype=torch.bool)
    return found.scatter_(1, places, True).view(values.shape)


def cover(images: Tensor, chosen: Tensor) -> Tensor:
    """Images (N, C, H, W) with the `chosen` places (N, H, W) bool set to the image's own mean."""
    return torch.where(chosen[:, None], images.mean((1, 2, 3), keepdim=True), images)


def move(images: Tensor, down: int, right: int) -> Tensor:
    """Images (N, C, H, W) or maps (N, H, W) moved by whole pixels, what enters being the edge."""
    flat = images if images.ndim == 4 else images[:, None]
    padded = nn.functional.pad(flat, (abs(right),) * 2 + (abs(down),) * 2, mode="replicate")
    height, width = flat.shape[-2:]
    top, left = abs(down) - down, abs(right) - right
    moved = padded[..., top : top + height, left : left + width]
    return moved if images.ndim == 4 else moved[:, 0]
