"""ResNet-18 for gray faces, from random weights, with the stem that suits the picture.

Why: the stock stem (7 × 7, stride 2, then pooling) leaves 12 × 12 of 48 × 48 pixels before
the first block. It is what the four-class system uses, and fast. The 3 × 3 stem keeps all
48 × 48: better on small faces and about fourteen times the arithmetic.
Source: ResNet (He et al. 2016) from torchvision; the 3 × 3 stem is the one its authors use
for CIFAR's 32 × 32 pictures.
Needs torch and torchvision; copy freely (MIT, see LICENSE).
"""

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

__all__ = ["GrayResNet"]


class GrayResNet(ResNet):
    """Images (N, in_channels, H, W) → logits (N, num_classes); 11.17 million parameters.

    `stem` is "stock" or "3x3". Raises ValueError for another.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 7, *, stem: str = "stock") -> None:
        if stem not in ("stock", "3x3"):
            raise ValueError(f'stem is {stem!r}; known are "stock" and "3x3"')
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=num_classes)
        if stem == "stock":
            self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        else:
            self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
            self.maxpool = nn.Identity()
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)


if __name__ == "__main__":
    for stem in ("stock", "3x3"):
        model = GrayResNet(num_classes=4, stem=stem).eval()
        maps = model.maxpool(model.conv1(torch.rand(2, 1, 48, 48)))
        print(
            f"{stem}: {sum(p.numel() for p in model.parameters()):,} parameters; "
            f"48 x 48 pixels reach the first block as {maps.shape[2]} x {maps.shape[3]}"
        )
