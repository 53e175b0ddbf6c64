"""Controls for Grad-CAM: what would its map look like if it meant nothing?

Why: a map over a face always looks as if it explained something. These controls ask whether it
depends on what was learnt (weights drawn anew), whether it follows the face (a moved picture), and
whether the places that it names matter to the answer (cover them, and as many others).
Sources: sanity checks, Adebayo et al. 2018 (arXiv:1810.03292); covering the most important pixels,
Samek et al. 2017 (arXiv:1509.06321). Written for this project.
Needs only torch; copy freely (MIT, see LICENSE).
"""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

__all__ = [
    "agreement",
    "compare_maps",
    "cover",
    "covering_costs",
    "highest",
    "move",
    "with_random_weights",
]

Draw = Callable[[nn.Module, Tensor, Tensor], Tensor]  # model, images, classes → maps (N, H, W)


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


def compare_maps(
    model: nn.Module, images: Tensor, draw: Draw, probabilities: Tensor, step: int = 6
) -> dict[str, Tensor]:
    """Correlations (N,) of each picture's map for the answer with the map of a control: the weights
    drawn anew (mean of three seeds), the second most likely class of `probabilities` (N, C), and
    the picture moved down by `step` pixels, beside the map as it was and moved with it."""
    first, second = probabilities.topk(2, dim=1).indices.T
    maps = draw(model, images, first)
    randoms = [draw(with_random_weights(model, seed), images, first) for seed in range(3)]
    moved = draw(model, move(images, step, 0), first)
    return {
        "random weights": torch.stack([agreement(maps, each) for each in randoms]).mean(0),
        "the second most likely class": agreement(maps, draw(model, images, second)),
        "the moved face, map not moved": agreement(maps, moved),
        "the moved face, map moved too": agreement(move(maps, step, 0), moved),
    }


def covering_costs(
    answer: Callable[[Tensor], Tensor], images: Tensor, maps: Tensor, share: float = 0.2
) -> dict[str, Tensor]:
    """How much of the answer's probability is lost (N,) when a share of the places is covered.

    `answer` gives probabilities (N, C). Covered are the places that the map calls most important,
    those that the map of another picture does (the same kind of shape, elsewhere), the least
    important ones, and single pixels at random, seed 0.
    """
    told = answer(images)
    preds = told.argmax(1, keepdim=True)
    noise = torch.rand(maps.shape, generator=torch.Generator().manual_seed(0))
    chosen = {
        "the map's most important": highest(maps, share),
        "another face's": highest(maps.roll(7, 0), share),
        "the map's least important": highest(-maps, share),
        "single pixels at random": highest(noise, share),
    }
    return {
        name: (told - answer(cover(images, places))).gather(1, preds)[:, 0]
        for name, places in chosen.items()
    }
