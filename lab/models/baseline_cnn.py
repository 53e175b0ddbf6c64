"""Baseline CNN: three convolutions and two linear layers, about 0.4 million parameters.

Why: the plainest network that learns expressions at all. Whatever another system adds
(attention, depth, pretraining) has to show its worth against this one.
Source: written for this project; the size is that of common FER2013 tutorials.
Needs only torch; copy freely (MIT, see LICENSE).
"""

import torch
from torch import Tensor, nn

__all__ = ["BaselineCNN"]


class BaselineCNN(nn.Module):
    """Images (N, in_channels, H, W), H and W ≥ 8 → logits (N, num_classes).

    Three times convolution, BatchNorm, ReLU, halving; a 6 × 6 map (48 × 48 faces give it
    exactly, others are pooled to it), then 64 units with dropout and the classifier.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 7,
        *,
        widths: tuple[int, int, int] = (32, 64, 128),
        hidden: int = 64,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((in_channels, *widths[:-1]), widths, strict=True):
            layers += [
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
        self.features = nn.Sequential(*layers)  # (N, 128, H / 8, W / 8)
        self.pool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(widths[-1] * 36, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(images)))


if __name__ == "__main__":
    model = BaselineCNN()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    for side in (8, 48, 64):
        print(f"{side} px -> logits {tuple(model(torch.rand(2, 1, side, side)).shape)}")
