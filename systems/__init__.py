"""The systems that are compared, by name: what a checkpoint's card calls "system"."""

from collections.abc import Callable
from typing import Any

from torch import nn

import tinyvgg
import transfer

__all__ = ["NAMES", "build"]


def build_tinyvgg(num_classes: int, in_channels: int, **kwargs: Any) -> nn.Module:
    return tinyvgg.TinyVGG(in_channels, num_classes=num_classes, **kwargs)


def build_transfer(backbone: str) -> Callable[..., nn.Module]:
    def build_backbone(num_classes: int, in_channels: int, **kwargs: Any) -> nn.Module:
        if in_channels != 3:
            raise ValueError(
                f"{backbone} takes 3 channels, not {in_channels}; repeat gray to 3 "
                'with Preprocess(mode="L", channels=3)'
            )
        return transfer.build(backbone, num_classes, **{"weights": None, **kwargs})

    return build_backbone


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "tinyvgg": build_tinyvgg,
    "resnet18": build_transfer("resnet18"),
    "efficientnet_lite0": build_transfer("efficientnet_lite0"),
}
NAMES = tuple(BUILDERS)


def build(name: str, *, num_classes: int, in_channels: int = 3, **kwargs: Any) -> nn.Module:
    """Images (N, in_channels, H, W) → logits (N, num_classes), random weights by default.

    `kwargs` are the system's own (`hidden_channels` for tinyvgg, `weights` and
    `dropout` for the pretrained ones). Raises ValueError for an unknown name.
    """
    if name not in BUILDERS:
        raise ValueError(f"no system {name!r}; known: {', '.join(NAMES)}")
    return BUILDERS[name](num_classes=num_classes, in_channels=in_channels, **kwargs)
