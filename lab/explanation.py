"""Where a network looks: Grad-CAM by class and on single faces, and its attention maps."""

from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

from hf_collate import Batches
from lab import gradcam, plots
from lab.data import Faces
from lab.evaluation import load_model
from lab.results import Results, file_sha256

__all__ = ["draw_maps", "explain"]

SHOWN = 8  # single faces
LOOKED_AT = 1024  # validation faces, for the means, from each class the same number
SIDE = 5  # places along a map, where the network has such a layer: 2 × 2 says little
FEWEST = 8  # a mean over fewer faces would show somebody


def draw_maps(checkpoints: Iterable[Path], faces: Faces, out: Path, device: torch.device) -> None:
    """Grad-CAM and attention maps of each checkpoint."""
    for checkpoint in checkpoints:
        for path in explain(checkpoint, faces, out, device):
            print(f"wrote {path}", flush=True)


def explain(checkpoint: Path, faces: Faces, out: Path, device: torch.device) -> list[Path]:
    """Write maps of one network into out/results/NAME and return their paths.

    gradcam_by_class.png: the mean face and the mean map of each class, over validation faces
    told rightly, which shows nobody. gradcam.png: single validation faces, the surest right
    answers and the surest mistakes. attention.png: the same faces, for a network that has
    attention. A system without maps (HOG + SVM) gives an empty list, and says so.
    The data's classes are joined to the checkpoint's by name; they may be only some of them.
    Raises ValueError when the data have a class that the checkpoint does not know.
    """
    model, card, rule = load_model(checkpoint, device)
    faces = faces.with_classes(card["class_names"], str(checkpoint), subset=True)
    names, stem = card["class_names"], checkpoint.stem
    decoded = faces.decoded(rule)["validation"]
    rows = rows_per_class(decoded.labels, LOOKED_AT // len(names))
    batches = list(Batches(decoded, 64, device=device, indices=rows))
    images, labels = (torch.cat(column) for column in zip(*batches, strict=True))
    with torch.inference_mode():
        logits = torch.cat([model(x).cpu() for x, _ in batches])
    probs = (logits / card.get("temperature", 1.0)).softmax(1)
    labels, preds = labels.cpu(), probs.argmax(1)
    if (layer := layer_of(model, images[:2])) is None:
        print(f"{stem}: no Grad-CAM, there is no layer with a map of places")
        return []
    folder = Results(out / "results").folder_of(stem, file_sha256(checkpoint))
    folder.mkdir(parents=True, exist_ok=True)

    def picture(image: Tensor) -> np.ndarray:
        return plots.as_picture(image.cpu(), rule.mean, rule.std)

    def save(name: str, shown: Tensor, maps: Tensor, titles: list[str], point: str) -> Path:
        pictures = [picture(image) for image in shown]
        overlays = [gradcam.overlay(p, m) for p, m in zip(pictures, maps, strict=True)]
        colours = ["#b00000" if "label" in title else "black" for title in titles]
        figure = plots.cams(pictures, overlays, titles, point, colours=colours)
        figure.savefig(folder / f"{name}.png", dpi=110)
        plt.close(figure)
        return folder / f"{name}.png"

    def cam(shown: Tensor) -> Tensor:
        return torch.cat([gradcam.grad_cam(model, x, layer) for x in shown.split(64)])

    paths = []
    if (means := by_class(images, labels, preds, names, cam)) is not None:
        point = f"{stem}: mean of the faces told rightly, and what spoke for the answer ({layer})"
        paths.append(save("gradcam_by_class", *means, point))
    rows = pick_examples(probs, labels)
    titles = [
        f"{names[preds[r]]} {100 * probs[r, preds[r]]:.0f} %"
        + ("" if preds[r] == labels[r] else f"\nlabel: {names[labels[r]]}")
        for r in rows.tolist()
    ]
    point = f"{stem}: what speaks for the answer ({layer}); mistakes in red"
    paths.append(save("gradcam", images[rows], cam(images[rows]), titles, point))
    if found := gradcam.attention_maps(model, images[rows]):
        name = finest_map(found, images.shape[-1])
        point = f"{stem}: where it attends ({name}); mistakes in red"
        maps = scaled(found[name])
        paths.append(save("attention", images[rows], maps, titles, point))
    return paths


def rows_per_class(labels: Tensor, each: int) -> Tensor:
    """The first `each` rows of every class, in order."""
    rows = [(labels == k).nonzero().flatten()[:each] for k in labels.unique()]
    return torch.cat(rows).sort().values


def layer_of(model: nn.Module, images: Tensor) -> str | None:
    """The last layer whose map is fine enough to be looked at, or the last with any map."""
    for smallest in (SIDE, 1):
        try:
            return gradcam.last_layer(model, images, smallest)
        except ValueError:
            continue
    return None


def by_class(
    images: Tensor,
    labels: Tensor,
    preds: Tensor,
    names: list[str],
    cam: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor, list[str]] | None:
    """Mean picture, mean map and title of each class of which enough faces are told rightly."""
    pictures, maps, titles = [], [], []
    for number, name in enumerate(names):
        rows = ((labels == number) & (preds == number)).nonzero().flatten()[:64]
        if len(rows) >= FEWEST:
            pictures.append(images[rows].mean(0))
            maps.append(cam(images[rows]).mean(0))
            titles.append(f"{name} ({len(rows)})")
    return (torch.stack(pictures), scaled(torch.stack(maps)), titles) if titles else None


def scaled(maps: Tensor) -> Tensor:
    """Each map (N, h, w) stretched to [0, 1]."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-8)


def pick_examples(probs: Tensor, labels: Tensor) -> Tensor:
    """Rows of the surest right answers, one a class while there are, then the surest mistakes."""
    sure, preds = probs.max(1)
    order = sure.argsort(descending=True).tolist()
    right = [r for r in order if preds[r] == labels[r]]
    wrong = [r for r in order if preds[r] != labels[r]]
    first = {int(labels[r]): r for r in reversed(right)}  # the surest of each class
    half = sorted(first.values(), key=order.index)[: SHOWN // 2]
    return torch.tensor(half + wrong[: SHOWN - len(half)], dtype=torch.int64)


def finest_map(maps: dict[str, Tensor], side: int) -> str:
    """The largest map below the picture's own size: fine enough to see, past plain edges."""
    widths = {name: m.shape[-1] for name, m in maps.items()}
    below = {name: width for name, width in widths.items() if width < side}
    return max(below or widths, key=widths.__getitem__)
