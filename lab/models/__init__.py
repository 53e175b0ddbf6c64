"""The systems that are compared, by name: what a checkpoint's card calls "system"."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import tinyvgg
import transfer
from expression.checkpoint import load_checkpoint
from expression.predictor import misfit
from lab import heads

from . import attention_cnn, baseline_cnn, custom_cnn, gray_resnet, hog_svm, resnet9, vit_tiny
from .outline import build_outline, fill_outline

__all__ = [
    "BUILDERS",
    "NAMES",
    "build",
    "known_arguments",
    "outline_of",
    "restore",
    "restore_checkpoint",
]


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

    In eval mode it answers (N, num_classes), also where it has several heads. It takes no memory
    beside that of `state`, which it shares. Raises ValueError where card and weights do not fit.
    """
    return heads.attach(fill_outline(outline_of(card, len(state)), as_tensors(state)), card)


def restore_checkpoint(path: Path | str) -> tuple[nn.Module, dict[str, Any]]:
    """(the network of a checkpoint's file, see `restore`; its card). Raises as `load_checkpoint`,
    and ValueError, naming the file, where weights and card do not fit."""
    state, card = load_checkpoint(path)
    try:
        return restore(state, card), card
    except ValueError as error:
        raise misfit(Path(path), error) from error


def outline_of(card: dict[str, Any], tensors: int, further_outputs: int = 0) -> nn.Module:
    """The network that a card names, without memory, see `lab.models.outline`.

    `tensors` are those of its file, `further_outputs` logits that it has beside its own. Raises
    ValueError where it cannot be built, or has far more tensors.
    """
    outputs = len(card["class_names"]) * len(card.get("heads", ["label"])) + further_outputs
    # The file has all weights: a card names no other file to read, and none to fetch
    args = {name: v for name, v in card.get("system_args", {}).items() if name != "weights"}
    channels = card["preprocess"]["channels"]
    return build_outline(
        lambda: build(card["system"], num_classes=outputs, in_channels=channels, **args),
        tensors,
        f"its file, which holds {tensors} tensors",
    )


def as_tensors(state: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """A checkpoint's weights as torch wants them."""
    return {name: torch.from_numpy(array) for name, array in state.items()}
