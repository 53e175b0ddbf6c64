"""Attention CNN: channel and spatial attention after each block, 1.2 million parameters.

Why: a face is read from a few places (mouth, brows, eyes). Channel attention says which
features count in this picture, spatial attention where; the latter can be looked at.
Source: written for this project after CBAM (Woo et al. 2018, arXiv 1807.06521).
Needs only torch; copy freely (MIT, see LICENSE).
"""

import torch
from torch import Tensor, nn

__all__ = ["AttentionCNN", "ChannelAttention", "SpatialAttention"]


class ChannelAttention(nn.Module):
    """(N, C, H, W) → the same, each channel weighed in (0, 1) by its mean and its maximum."""

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        middle = max(channels // reduction, 4)
        self.squeeze = nn.Sequential(
            nn.Conv2d(channels, middle, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(middle, channels, 1),
        )

    def forward(self, maps: Tensor) -> Tensor:
        mean, top = maps.mean((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
        return maps * (self.squeeze(mean) + self.squeeze(top)).sigmoid()  # (N, C, 1, 1)


class SpatialAttention(nn.Module):
    """(N, C, H, W) → the same, each place weighed in (0, 1) by its mean and its maximum.

    While `keep` is set, `attention` holds the weights (N, 1, H, W) of the last pass.
    """

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.look = nn.Conv2d(2, 1, kernel, padding=kernel // 2)
        self.keep = False
        self.attention: Tensor | None = None

    def forward(self, maps: Tensor) -> Tensor:
        where = torch.cat([maps.mean(1, keepdim=True), maps.amax(1, keepdim=True)], dim=1)
        weights = self.look(where).sigmoid()  # (N, 1, H, W)
        self.attention = weights.detach() if self.keep else None
        return maps * weights


class Block(nn.Module):
    """Twice convolution, BatchNorm, ReLU; channel attention, spatial attention; halving."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.convolve = nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        )
        self.channel = ChannelAttention(after)
        self.spatial = SpatialAttention()
        self.halve = nn.MaxPool2d(2)

    def forward(self, maps: Tensor) -> Tensor:
        return self.halve(self.spatial(self.channel(self.convolve(maps))))


class AttentionCNN(nn.Module):
    """Images (N, in_channels, H, W), H and W ≥ 16 → logits (N, num_classes)."""

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 7,
        *,
        widths: tuple[int, ...] = (32, 64, 128, 256),
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        pairs = zip((in_channels, *widths[:-1]), widths, strict=True)
        self.features = nn.Sequential(*(Block(before, after) for before, after in pairs))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(widths[-1], num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(images)))


if __name__ == "__main__":
    model = AttentionCNN()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    for module in model.modules():
        if isinstance(module, SpatialAttention):
            module.keep = True
    print(f"logits {tuple(model(torch.rand(2, 1, 48, 48)).shape)}")
    for name, module in model.named_modules():
        if isinstance(module, SpatialAttention) and module.attention is not None:
            print(f"{name}: attention {tuple(module.attention.shape)}")
