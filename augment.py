"""Random changes of training pictures, a batch at once: moved, turned, made worse, blended.

Why: changed pictures keep a network from learning its few faces by heart. Libraries often
change picture by picture in Python, or draw once for a whole batch; here every picture
of a batch has changes of its own, in a few tensor operations on CPU or GPU. All of them
come from one generator, so that a training can be repeated.
Source: written for this project; random erasing after Zhong et al. 2020, mixup after
Zhang et al. 2018.
Needs torch, numpy and, to show itself, pillow; copy freely (MIT, see LICENSE).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Augment", "Mixup", "blurred"]


@dataclass(frozen=True)
class Augment:
    """Random changes for training, drawn anew for every picture of a batch.

    `flip` and `erase` are probabilities; `degrees`, `shift` (share of the side),
    `scale` (0.1: 90–110 %), `brightness` and `contrast` (0.2: 80–120 %) are the
    largest changes. `darkness`, `blur` (share of the side) and `noise` make pictures as
    bad as some cameras do; half of them get a quarter of that or less. Called with
    float images (N, C, H, W) in [0, 1]; returns the same shape and range, or with
    `side` pictures of that many pixels, resampled in the same step as they are turned.
    Randomness comes from the generator alone.
    Images that are a `part` of a batch of `whole` are changed as they would be in it.
    """

    flip: float = 0.5
    """Probability of a mirror image."""
    degrees: float = 10.0
    """Largest rotation in degrees, either way."""
    shift: float = 0.05
    """Largest move, as a share of the picture's side."""
    scale: float = 0.05
    """Largest change of size: 0.05 is 95-105 %."""
    brightness: float = 0.1
    """Largest change of brightness: 0.1 is 90-110 %."""
    contrast: float = 0.1
    """Largest change of contrast: 0.1 is 90-110 %."""
    erase: float = 0.0
    """Probability of covering a rectangle (random erasing)."""
    darkness: float = 0.0
    """Largest loss of light: 0.9 leaves a tenth of it."""
    blur: float = 0.0
    """Largest standard deviation of a Gaussian blur, as a share of the picture's side."""
    noise: float = 0.0
    """Largest standard deviation of Gaussian noise, as a share of white."""
    side: int = 0
    """Side in pixels that pictures are resampled to in the same step; 0: as they are."""

    def __call__(
        self,
        images: Tensor,
        generator: torch.Generator,
        part: slice = slice(None),
        whole: int = 0,
    ) -> Tensor:
        count, device = whole or len(images), images.device

        def draw(*shape: int) -> Tensor:  # uniform in [-1, 1)
            return (torch.rand(count, *shape, generator=generator)[part] * 2 - 1).to(device)

        angle = draw() * math.radians(self.degrees)
        zoom = 1 + draw() * self.scale
        mirror = torch.where(draw() < 2 * self.flip - 1, -1.0, 1.0)
        cos, sin = angle.cos() / zoom, angle.sin() / zoom
        offset = draw(2) * 2 * self.shift  # grid_sample's side is 2 long
        theta = torch.stack(
            [cos * mirror, -sin, offset[:, 0], sin * mirror, cos, offset[:, 1]], dim=1
        ).view(-1, 2, 3)
        shape = [*images.shape[:2], *([self.side] * 2 if self.side else images.shape[2:])]
        grid = F.affine_grid(theta, shape, align_corners=False)
        images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)

        gain = 1 + draw(1, 1, 1) * self.contrast
        middle = images.mean(dim=(1, 2, 3), keepdim=True)
        images = (images - middle) * gain + middle * (1 + draw(1, 1, 1) * self.brightness)
        if self.erase:
            images = self.erased(images, draw)
        if self.darkness:
            images = images * (1 - self.darkness * draw(1, 1, 1).square())
        if self.blur:
            images = blurred(images, self.blur * draw().square())
        if self.noise:
            drawn = torch.randn(count, *images.shape[1:], generator=generator)[part].to(device)
            images = images + self.noise * draw(1, 1, 1).square() * drawn
        return images.clamp(0, 1)

    def erased(self, images: Tensor, draw: Callable[..., Tensor]) -> Tensor:
        """Cover a rectangle of 10–40 % of each side with the picture's mean (Zhong et al. 2020)."""
        height, width = images.shape[2:]
        centre, half = draw(2), 0.25 + 0.15 * draw(2)
        y = torch.linspace(-1, 1, height, device=images.device).view(1, -1, 1)
        x = torch.linspace(-1, 1, width, device=images.device).view(1, 1, -1)
        inside = ((y - centre[:, 0].view(-1, 1, 1)).abs() < half[:, 0].view(-1, 1, 1)) & (
            (x - centre[:, 1].view(-1, 1, 1)).abs() < half[:, 1].view(-1, 1, 1)
        )
        covered = inside & (draw(1, 1) < 2 * self.erase - 1)
        return torch.where(covered[:, None], images.mean(dim=(1, 2, 3), keepdim=True), images)


def blurred(images: Tensor, deviations: Tensor) -> Tensor:
    """Images (N, C, H, W) blurred by Gaussians of standard deviations (N,), in shares of the side.

    A picture's borders are not mixed with anything outside. 0 leaves it as it is.
    """

    def weights(side: int) -> Tensor:  # (N, 1, side, side): of each pixel in each, as rows
        place = torch.arange(side, device=images.device, dtype=images.dtype)
        apart = (place[:, None] - place).square()
        variance = (deviations * side).square().clamp(min=1e-6).view(-1, 1, 1, 1)
        return (-apart / (2 * variance)).softmax(-1)

    height, width = images.shape[2:]
    return weights(height) @ images @ weights(width).mT


@dataclass(frozen=True)
class Mixup:
    """Mixup (Zhang et al. 2018): each picture blended with another, and its target likewise.

    Images (N, C, H, W) and targets (N, …) of probabilities; shapes stay. The shares are
    Beta(alpha, alpha), the larger part is a picture's own.
    """

    alpha: float = 0.2

    def __call__(
        self, images: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        seed = int(torch.randint(2**31, (), generator=generator))
        other = torch.randperm(len(images), generator=generator).to(images.device)
        beta = np.random.default_rng(seed).beta(self.alpha, self.alpha, len(images))
        own = torch.from_numpy(np.maximum(beta, 1 - beta)).to(images)  # (n,)

        def blend(values: Tensor) -> Tensor:
            share = own.view(-1, *[1] * (values.ndim - 1))
            return share * values + (1 - share) * values[other]

        return blend(images), blend(targets)


def demonstrate() -> None:
    """Change one drawn face sixteen times: the same seed, the same pictures."""
    import tempfile
    from pathlib import Path

    from PIL import Image, ImageDraw

    face = Image.new("L", (48, 48), 40)
    draw = ImageDraw.Draw(face)
    draw.ellipse((6, 2, 42, 46), fill=200)
    for x in (17, 31):
        draw.ellipse((x - 3, 15, x + 3, 21), fill=30)
    draw.arc((15, 22, 33, 38), 20, 160, fill=30, width=2)
    faces = (torch.tensor(np.asarray(face)).float() / 255).expand(16, 1, -1, -1)
    augment = Augment(degrees=15, shift=0.08, scale=0.1, erase=0.3, darkness=0.9, blur=0.04,
                      noise=0.15)  # fmt: skip
    first, second = (augment(faces, torch.Generator().manual_seed(0)) for _ in range(2))
    print(f"the same seed, the same pictures: {torch.equal(first, second)}")
    many, generator = faces.repeat(64, 1, 1, 1), torch.Generator().manual_seed(0)
    start = time.perf_counter()
    augment(many, generator)
    print(f"{len(many) / (time.perf_counter() - start):,.0f} pictures/s")
    rows = (255 * first).byte().view(2, 8, 48, 48).permute(0, 2, 1, 3).reshape(96, 384)
    shown = Path(tempfile.gettempdir()) / "augment.png"
    Image.fromarray(rows.numpy()).resize((1536, 384)).save(shown)
    print(f"sixteen of them: {shown}")


if __name__ == "__main__":
    demonstrate()
