"""ViT-Tiny: a small vision transformer, pretrained or from scratch on 48 × 48 faces.

Why: with ImageNet weights it reads faces well; without them a transformer has to learn
from 28,709 faces what a convolution knows by construction. Patches of 8 × 8 pixels turn a
48 × 48 face into 36 tokens, where the stock patches of 16 would leave 9. A few small convolutions
in place of the one large patch filter (`stem="conv"`) give it what pretraining would have.
Source: ViT (Dosovitskiy et al. 2021) and its tiny form (Touvron et al. 2021), from timm; the
convolutional stem is that of Xiao et al. 2021, "Early Convolutions Help Transformers See Better".
Needs torch and timm; copy freely (MIT, see LICENSE).
"""

from pathlib import Path
from typing import Literal

import timm
import torch
from torch import nn

__all__ = ["WeightsUnavailable", "build"]

# timm's ViT-Tiny has patches of 16; other patches and sizes are arguments of the same network,
# for which timm resamples the patch filters and position embeddings of a file.
NAME = "vit_tiny_patch16_224"


class WeightsUnavailable(RuntimeError):
    """Pretrained weights were asked for and cannot be had; says where they were looked for."""


class ConvStem(nn.Sequential):
    """Images (N, in_channels, H, W) → tokens' features (N, width, H / patch, W / patch).

    A 3 × 3 convolution halves the side until it is a patch-th, while channels double up to
    `width`; one of 1 × 1 ends it. Raises ValueError where `patch` is no power of two.
    """

    def __init__(self, in_channels: int, width: int, patch: int) -> None:
        halvings = patch.bit_length() - 1
        if 2**halvings != patch:
            raise ValueError(f"patch {patch}: a convolutional stem needs a power of two")
        layers: list[nn.Module] = []
        for number in range(halvings):
            channels = width >> (halvings - 1 - number)
            layers += [
                nn.Conv2d(in_channels, channels, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            ]
            in_channels = channels
        super().__init__(*layers, nn.Conv2d(in_channels, width, 1))


def build(
    in_channels: int = 1,
    num_classes: int = 7,
    *,
    weights: str | Path | None = None,
    size: int = 48,
    patch: int = 8,
    drop_path: float = 0.0,
    stem: Literal["patch", "conv"] = "patch",
) -> nn.Module:
    """Images (N, in_channels, size, size) → logits (N, num_classes); about 5.4 million parameters.

    `weights` is None (random), "imagenet" (timm's ViT-Tiny from the hub; use `size=224,
    patch=16`, which it was trained with), or the path of a file with its weights
    (safetensors or a state dict; nothing in it is run). timm resamples patch filters and
    position embeddings and sums colour filters for gray pictures. The head is new.
    With `stem="conv"` tokens come from `ConvStem`, which no published weights know.
    Raises WeightsUnavailable when weights cannot be had or are of another network,
    ValueError when the size is no multiple of the patch, the patch of a convolutional stem no
    power of two, or one is to have pretrained weights.
    """
    if size % patch:
        raise ValueError(f"size {size} is no multiple of patch {patch}")
    options = dict(num_classes=num_classes, in_chans=in_channels, img_size=size, patch_size=patch)
    if stem == "conv" and weights is not None:
        raise ValueError('pretrained weights are those of stem="patch"; "conv" starts at random')
    if weights is None:
        model = timm.create_model(NAME, pretrained=False, drop_path_rate=drop_path, **options)
        if stem == "conv":
            model.patch_embed.proj = ConvStem(in_channels, model.embed_dim, patch)
        return model
    overlay = {}
    if weights != "imagenet":
        if not Path(weights).is_file():
            raise WeightsUnavailable(f"no weights at {weights}; give a safetensors or .pth file")
        overlay = {"pretrained_cfg_overlay": {"file": str(weights)}}
    try:
        return timm.create_model(
            NAME, pretrained=True, drop_path_rate=drop_path, **options, **overlay
        )
    except Exception as error:  # the hub, safetensors, pickle and torch raise each their own
        raise WeightsUnavailable(
            f"ViT-Tiny's weights could not be had from {weights!r}: {error}. Without them: "
            "weights=None, or the path of a file downloaded elsewhere"
        ) from error


if __name__ == "__main__":
    for side, step in ((48, 8), (224, 16)):
        model = build(size=side, patch=step).eval()
        logits = model(torch.rand(2, 1, side, side))
        print(
            f"{side} px in patches of {step}: {(side // step) ** 2} tokens, "
            f"{sum(p.numel() for p in model.parameters()):,} parameters, "
            f"logits {tuple(logits.shape)}"
        )
