"""TinyVGG: the smallest convolutional network worth training on faces.

Why: two blocks of Conv-BatchNorm-ReLU ×2 + MaxPool show everything a larger
network does, and train in seconds on a laptop. The head averages each feature
map (`AdaptiveAvgPool2d(1)`) before the linear layer, so one network takes any
picture size; a hard-coded `Linear(hidden * 16 * 16, …)` takes only one.
Source: written for this project after the TinyVGG of CNN Explainer
(https://poloclub.github.io/cnn-explainer/), with batch normalisation
(Ioffe & Szegedy 2015) and global average pooling (Lin et al. 2014) added.
Needs only torch; copy freely (MIT, see LICENSE).
"""

import torch
from torch import Tensor, nn

__all__ = ["TinyVGG"]


def block(in_channels: int, out_channels: int, batch_norm: bool) -> nn.Sequential:
    """Conv-BatchNorm-ReLU twice, then MaxPool: (N, in, H, W) → (N, out, H // 2, W // 2)."""
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        # BatchNorm subtracts the mean again, so a bias before it would do nothing.
        layers.append(nn.Conv2d(channels, out_channels, 3, padding=1, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(out_channels))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.MaxPool2d(2))


class TinyVGG(nn.Module):
    """Two convolution blocks and a linear head.

    Takes images (N, in_channels, H, W), float, H and W at least 4; returns logits
    (N, num_classes). `batch_norm=False` leaves out normalisation, for comparison.
    Raises ValueError when an argument or the number of channels does not fit.
    """

    def __init__(
        self,
        in_channels: int = 3,
        hidden_channels: int = 32,
        num_classes: int = 3,
        *,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (
            ("in_channels", in_channels),
            ("hidden_channels", hidden_channels),
            ("num_classes", num_classes),
        ):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be 1 or more")
        self.in_channels = in_channels
        self.blocks = nn.Sequential(
            block(in_channels, hidden_channels, batch_norm),
            block(hidden_channels, hidden_channels, batch_norm),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(hidden_channels, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != self.in_channels or min(images.shape[2:]) < 4:
            raise ValueError(
                f"images have shape {tuple(images.shape)}; "
                f"wanted (N, {self.in_channels}, H, W) with H and W at least 4"
            )
        return self.head(self.blocks(images))  # (N, hidden, H / 4, W / 4) → (N, num_classes)


def demonstrate() -> None:
    """Print sizes and shapes, and learn three coloured squares by heart."""
    torch.manual_seed(0)
    for in_channels, size in ((1, 48), (3, 64), (3, 224)):
        model = TinyVGG(in_channels, num_classes=7)
        logits = model(torch.randn(2, in_channels, size, size))
        parameters = sum(p.numel() for p in model.parameters())
        print(
            f"{in_channels} x {size} x {size} -> {tuple(logits.shape)}  {parameters:,} parameters"
        )

    model, images, labels = (
        TinyVGG(),
        torch.eye(3).view(3, 3, 1, 1).expand(3, 3, 32, 32),
        torch.arange(3),
    )
    optimizer, loss_fn = torch.optim.AdamW(model.parameters(), lr=1e-2), nn.CrossEntropyLoss()
    for step in range(31):
        optimizer.zero_grad()
        loss = loss_fn(model(images), labels)
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            print(f"step {step:2d}  loss {loss.item():.4f} nats (a guess costs ln 3 = 1.0986)")


if __name__ == "__main__":
    demonstrate()
