"""ResNet9: the residual network made for small pictures and short trainings, for gray faces.

Why: where every second of training counts, few wide convolutions on few pixels learn more than
many on many. A plain convolution and a pooling a stage, and residual pairs only where pictures
have become small, cost a quarter of a ResNet18 with a 3 × 3 stem; any size of picture goes in,
so that a training may start on small ones.
Source: David Page, "How to train your ResNet" (2018), whose fourth layer was added here because
48 pixels are more than CIFAR's 32; written for this project.
Needs torch; copy freely (MIT, see LICENSE).
"""

from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["ResNet9"]


def conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Sequential):
    """Two convolutions beside the way past them; (N, C, H, W) → the same."""

    def __init__(self, channels: int) -> None:
        super().__init__(conv(channels, channels), conv(channels, channels))

    def forward(self, images: Tensor) -> Tensor:
        return images + super().forward(images)


class ResNet9(nn.Module):
    """Images (N, in_channels, H, W), sides of 16 or more → logits (N, num_classes).

    A 3 × 3 convolution to `stem` channels; then for each of `widths` a pooling to half the side
    and a convolution, followed by as many residual pairs as `residuals` says for that stage.
    `dropout` is the share of the pooled features that training hides.
    Raises ValueError when the two differ in length.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 7,
        *,
        stem: int = 32,
        widths: Sequence[int] = (64, 128, 256),
        residuals: Sequence[int] = (0, 1, 1),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(widths) != len(residuals):
            raise ValueError(
                f"{len(widths)} widths {list(widths)} and {len(residuals)} residuals "
                f"{list(residuals)}; one number of each is wanted for every stage"
            )
        layers: list[nn.Module] = [conv(in_channels, stem)]
        channels = stem
        for width, count in zip(widths, residuals, strict=True):
            layers += [nn.MaxPool2d(2), conv(channels, width)]
            layers += [Residual(width) for _ in range(count)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(channels, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


if __name__ == "__main__":
    import torch

    model = ResNet9().eval()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    for side in (32, 48):
        maps = model.features(torch.rand(2, 1, side, side))
        print(f"{side} x {side} pixels -> {tuple(maps.shape)} -> {tuple(model.head(maps).shape)}")
