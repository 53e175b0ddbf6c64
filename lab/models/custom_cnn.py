"""Custom CNN: four blocks, global average pooling, two linear layers with dropout.

Why: the from-scratch network of the classical-against-deep comparison. Global pooling
leaves no weights that belong to a place in the picture, so it takes any size and has
little to memorise with.
Source: written for this project after the usual pattern (Lin et al. 2014 for the pooling).
Needs only torch; copy freely (MIT, see LICENSE).
"""

import torch
from torch import Tensor, nn

__all__ = ["CustomCNN"]


def block(before: int, after: int) -> nn.Sequential:
    """(N, before, H, W) → (N, after, H / 2, W / 2)."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )


class CustomCNN(nn.Module):
    """Images (N, in_channels, H, W), H and W ≥ 16 → logits (N, num_classes)."""

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 7,
        *,
        widths: tuple[int, ...] = (32, 64, 128, 256),
        hidden: int = 128,
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        pairs = zip((in_channels, *widths[:-1]), widths, strict=True)
        self.features = nn.Sequential(*(block(before, after) for before, after in pairs))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(widths[-1], hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(images)))


if __name__ == "__main__":
    model = CustomCNN()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    for side in (16, 48, 96):
        print(f"{side} px -> logits {tuple(model(torch.rand(2, 1, side, side)).shape)}")
