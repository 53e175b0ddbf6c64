"""The systems that are compared, by name: what a checkpoint's card calls "system"."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

import tinyvgg
import transfer
from lab import heads

from . import attention_cnn, baseline_cnn, custom_cnn, gray_resnet, hog_svm, resnet9, vit_tiny

__all__ = ["BUILDERS", "NAMES", "build", "known_arguments", "restore"]


def build_transfer(backbone: str) -> Callable[..., nn.Module]:
    def build_backbone(in_channels: int, num_classes: int, **kwargs: Any) -> nn.Module:
        if in_channels != 3:
            raise ValueError(
                f"{backbone} takes 3 channels, not {in_channels}; repeat gray to 3 "
                'with Preprocess(mode="L", channels=3)'
            )
        return transfer.build(backbone, num_classes, **{"weights": None, **kwargs})

    return build_backbone


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "hog_svm": hog_svm.HogSvm,
    "baseline_cnn": baseline_cnn.BaselineCNN,
    "custom_cnn": custom_cnn.CustomCNN,
    "attention_cnn": attention_cnn.AttentionCNN,
    "tinyvgg": tinyvgg.TinyVGG,
    "gray_resnet": gray_resnet.GrayResNet,
    "resnet9": resnet9.ResNet9,
    "vit_tiny": vit_tiny.build,
    "resnet18": build_transfer("resnet18"),
    "efficientnet_lite0": build_transfer("efficientnet_lite0"),
}
NAMES = tuple(BUILDERS)


def build(name: str, *, num_classes: int, in_channels: int = 3, **kwargs: Any) -> nn.Module:
    """Images (N, in_channels, H, W) → logits (N, num_classes), random weights by default.

    `kwargs` are the system's own (`hidden_channels` for tinyvgg, `stem` for gray_resnet,
    `weights` and `dropout` for the pretrained ones). Raises ValueError for an unknown name.
    """
    if name not in BUILDERS:
        raise ValueError(f"no system {name!r}; known: {', '.join(NAMES)}")
    return BUILDERS[name](in_channels=in_channels, num_classes=num_classes, **kwargs)


def known_arguments(name: str) -> list[str]:
    """The names of a system's own arguments: what `build` takes beside channels and classes."""
    builder = transfer.build if name in transfer.BACKBONES else BUILDERS[name]
    given = {"backbone", "in_channels", "num_classes"}
    return [known for known in inspect.signature(builder).parameters if known not in given]


def restore(state: dict[str, np.ndarray], card: dict[str, Any]) -> nn.Module:
    """The network of a checkpoint, from what `expression.checkpoint.load_checkpoint` returns.

    In eval mode it answers (N, num_classes), also where it has several heads.
    Raises KeyError, TypeError, ValueError or RuntimeError where card and weights do not fit.
    """
    model = build(
        card["system"],
        num_classes=len(card["class_names"]) * len(card.get("heads", ["label"])),
        in_channels=card["preprocess"]["channels"],
        **card.get("system_args", {}),
    )
    model.load_state_dict(as_tensors(state))
    return heads.attach(model, card)


def as_tensors(state: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """A checkpoint's weights as torch wants them."""
    return {name: torch.from_numpy(array) for name, array in state.items()}
