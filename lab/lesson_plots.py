"""Figures that explain: a network's shapes, a convolution, the field a map sees, loss, power.

Why: the notebook explains what other courses leave to be looked up; the drawing is here, so that
its cells stay short. Everything drawn is computed from the network or the picture that is given.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullLocator
from scipy.stats import norm
from torch import Tensor, nn

from lab.plots import COLOURS, GRAY, caption, clean, picture_grid

__all__ = [
    "architecture",
    "convolution",
    "cross_entropy",
    "detectable_difference",
    "power",
    "range_test",
    "receptive_fields",
    "seen_by",
    "spread_by_layer",
]


@torch.inference_mode()
def output_shapes(model: nn.Module, images: Tensor, names: Sequence[str]) -> list[tuple[int, ...]]:
    """The shapes, without the batch, that the modules of these names give for `images`."""
    shapes: dict[str, tuple[int, ...]] = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda _module, _args, output, name=name: shapes.update({name: tuple(output.shape[1:])})
        )
        for name in names
    ]
    training = model.training
    try:
        model.eval()(images)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return [shapes[name] for name in names]


def architecture(model: nn.Module, images: Tensor, steps: Mapping[str, str], point: str) -> Figure:
    """A network as a row of boxes: tall where maps are large, wide where there are many.

    `steps` gives each module's name in the network and what to call it; `images` (N, C, H, W) are
    sent through once, and every box bears the shape (channels × height × width) that came out.
    """
    shapes = [tuple(images.shape[1:]), *output_shapes(model, images, list(steps))]
    titles = ["picture", *steps.values()]
    figure, axes = plt.subplots(figsize=(10, 2.9), layout="constrained")
    x, largest = 0.0, max(images.shape[2:])
    for number, (shape, title) in enumerate(zip(shapes, titles, strict=True)):
        side = shape[1] / largest if len(shape) == 3 else 0.0
        width = 0.16 + 0.13 * math.log2(shape[0] + 1) / 2
        height = 0.06 + 0.94 * side
        colour = COLOURS[0] if len(shape) == 3 else COLOURS[1]
        axes.add_patch(
            Rectangle(
                (x, 0.5 - height / 2),
                width,
                height,
                facecolor=colour,
                edgecolor=colour,
                alpha=0.3 if number else 0.1,
            )
        )
        lines = f"{shape[0]} ×\n{shape[1]} × {shape[2]}" if len(shape) == 3 else f"{shape[0]}"
        axes.text(x + width / 2, -0.1, lines, ha="center", va="top", fontsize=8)
        axes.text(x + width / 2, 1.06, title, ha="center", va="bottom", fontsize=8)
        if number:
            arrow = {"arrowstyle": "->", "color": GRAY, "linewidth": 0.8}
            axes.annotate("", (x - 0.02, 0.5), (x - 0.3, 0.5), arrowprops=arrow)
        x += width + 0.34
    axes.set(xlim=(-0.1, x - 0.2), ylim=(-0.45, 1.35))
    axes.axis("off")
    caption(figure, point)
    return figure


def convolution(picture: Tensor, kernels: Mapping[str, Tensor], point: str) -> Figure:
    """What 3 × 3 filters answer: the picture, then filter, response, ReLU and 2 × 2 maximum.

    `picture` is (H, W) in [0, 1]; each kernel is (3, 3). A row for each kernel.
    """
    figure, grid = picture_grid(len(kernels), 5, (10, 2.15 * len(kernels) + 0.3))
    for row, (name, kernel) in zip(grid, kernels.items(), strict=True):
        framed = nn.functional.pad(picture[None, None], (1, 1, 1, 1), mode="replicate")
        response = nn.functional.conv2d(framed, kernel[None, None])
        positive = response.relu()
        pooled = nn.functional.max_pool2d(positive, 2)
        top = float(response.abs().quantile(0.99))
        for axes, image, title, scale in zip(
            row,
            (picture, kernel, response[0, 0], positive[0, 0], pooled[0, 0]),
            (
                f"picture {shape_of(picture)}",
                name,
                f"response {shape_of(response)}",
                "ReLU: below 0 is 0",
                f"largest of 2 × 2: {shape_of(pooled)}",
            ),
            ((0, 1), (-2, 2), (-top, top), (0, top), (0, top)),
            strict=True,
        ):
            colours = "gray" if scale[0] == 0 else "PuOr"
            axes.imshow(image, cmap=colours, vmin=scale[0], vmax=scale[1])
            axes.set_title(title, fontsize=8, pad=3)
        for (y, x), value in np.ndenumerate(kernel.numpy()):
            row[1].text(x, y, f"{value + 0:g}", ha="center", va="center", fontsize=9)
    caption(figure, point)
    return figure


def shape_of(values: Tensor) -> str:
    return " × ".join(map(str, values.shape[-2:]))


def receptive_fields(layers: Sequence[nn.Module]) -> list[tuple[str, int, int]]:
    """(layer, side of the square of the picture that one value sees, stride), by layer.

    Of convolutions and poolings in a row, with square kernels; others change neither.
    """
    field, stride, found = 1, 1, []
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            kernel, step = (
                v if isinstance(v, int) else v[0] for v in (layer.kernel_size, layer.stride)
            )
            field += (kernel - 1) * stride
            stride *= step
            found.append((type(layer).__name__, field, stride))
    return found


def seen_by(picture: Any, fields: Sequence[tuple[str, int, int]], point: str) -> Figure:
    """The picture, a panel a layer, with the square that one value in the middle sees."""
    side = np.asarray(picture).shape[0]
    figure, grid = picture_grid(1, len(fields), (10, 10 / len(fields) + 0.55))
    for number, (axes, (name, field, _)) in enumerate(zip(grid[0], fields, strict=True)):
        axes.imshow(picture, cmap="gray")
        corner = side // 2 - field / 2
        axes.add_patch(
            Rectangle((corner, corner), field, field, fill=False, edgecolor=COLOURS[1], linewidth=2)
        )
        axes.set_title(f"{number + 1}: {name}\n{field} × {field} px", fontsize=8, pad=3)
    caption(figure, point)
    return figure


def cross_entropy(num_classes: int, probabilities: Mapping[str, float], point: str) -> Figure:
    """−ln p against p, with the uniform guess and some answers marked."""
    figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    shares = np.linspace(0.01, 1, 200)
    axes.plot(shares, -np.log(shares), color=COLOURS[0])
    guess = 1 / num_classes
    axes.plot(guess, math.log(num_classes), "o", color=GRAY)
    axes.annotate(
        f"uniform guess: p = 1/{num_classes}, loss ln {num_classes} = {math.log(num_classes):.2f}",
        (guess, math.log(num_classes)),
        (8, 6),
        textcoords="offset points",
        fontsize=9,
        color=GRAY,
    )
    for name, share in probabilities.items():
        axes.plot(share, -math.log(share), "o", color=COLOURS[1])
        axes.annotate(
            f"{name}: {-math.log(share):.2f}",
            (share, -math.log(share)),
            (8, 4),
            textcoords="offset points",
            fontsize=9,
            color=COLOURS[1],
            ha="left" if share < 0.8 else "right",
        )
    axes.set(xlabel="probability given to the label", ylabel="loss (nats)", xlim=(0, 1.02))
    axes.set_ylim(0, -math.log(0.01))
    clean(axes)
    caption(figure, point)
    return figure


def detectable_difference(faces: Any, discordant: float, power: float = 0.8) -> Any:
    """The smallest difference of two accuracies that a paired test on so many faces sees.

    `discordant` is the share of faces that exactly one of the two networks gets right. Seen means:
    found at the 5 % level (two-sided) in `power` of the cases; normal approximation of McNemar's
    test (Connor 1987).
    """
    reach = norm.ppf(0.975) + norm.ppf(power)
    return reach * np.sqrt(discordant / np.asarray(faces, dtype=float))


def power(marks: Mapping[str, int], discordant: Sequence[float], point: str) -> Figure:
    """The difference that can be seen against the number of faces; vertical lines at `marks`."""
    figure, axes = plt.subplots(figsize=(7.6, 3.5), layout="constrained")
    faces = np.geomspace(20, 20_000, 200)
    for colour, share in zip(cycle(COLOURS), discordant, strict=False):
        seen = 100 * detectable_difference(faces, share)
        axes.plot(
            faces, seen, color=colour, label=f"they differ on {100 * share:.0f} % of the faces"
        )
    for count in marks.values():
        axes.axvline(count, color=GRAY, linestyle="--", linewidth=1)
    axes.axhline(5, color=COLOURS[2], linewidth=1)
    axes.annotate("5 points", (20, 5), (3, 3), textcoords="offset points", fontsize=8,
                  color=COLOURS[2])  # fmt: skip
    axes.set(xscale="log", xlabel="validation faces", ylabel="smallest difference seen (points)")
    axes.set(ylim=(0, 30), xlim=(20, 20_000))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.legend(fontsize=8, frameon=False)
    clean(axes)
    above = axes.secondary_xaxis("top")
    names = [f"{count:,}\n{name}" for name, count in marks.items()]
    above.set_xticks(list(marks.values()), names, fontsize=8, color=GRAY)
    above.xaxis.set_minor_locator(NullLocator())
    caption(figure, point)
    return figure


def range_test(
    rates: Sequence[float], losses: Sequence[float], chosen: float, guess_loss: float, point: str
) -> Figure:
    """Loss by learning rate, the rate rising with every batch (Smith 2017)."""
    figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    smooth, kept = losses[0], []
    for loss in losses:
        smooth = 0.85 * smooth + 0.15 * loss
        kept.append(smooth)
    axes.plot(rates, losses, ".", color=COLOURS[0], alpha=0.3, markersize=4)
    axes.plot(rates, kept, color=COLOURS[0], label="smoothed")
    axes.axhline(guess_loss, color=GRAY, linestyle="--", linewidth=1, label="uniform guess")
    axes.axvline(chosen, color=COLOURS[1], linewidth=1, label=f"used here: {chosen:g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss (nats per face)")
    axes.set_ylim(min(kept) - 0.15, guess_loss + 0.6)
    axes.legend(fontsize=8, frameon=False)
    clean(axes)
    caption(figure, point)
    return figure


def spread_by_layer(spreads: Mapping[str, Sequence[float]], point: str) -> Figure:
    """The standard deviation of what each convolution passes on, a line for each network."""
    figure, axes = plt.subplots(figsize=(6.4, 3.0), layout="constrained")
    for colour, (name, values) in zip(cycle(COLOURS), spreads.items(), strict=False):
        axes.plot(range(1, len(values) + 1), values, "o-", color=colour, label=name)
    count = max(map(len, spreads.values()))
    axes.set(xlabel="convolution", ylabel="spread of its output", yscale="log")
    axes.set_xticks(range(1, count + 1))
    axes.legend(fontsize=8, frameon=False)
    clean(axes)
    caption(figure, point)
    return figure
