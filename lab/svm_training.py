"""Train the systems that have no epochs: features, then a support vector machine."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_collate import Batches
from lab import model_card, models
from lab.export import save_network
from lab.provenance import hardware
from lab.results import Results
from lab.run import Run
from lab.tensorboard_log import TensorBoardLog
from lab.training import measured

__all__ = ["SYSTEMS", "train_svm"]

SYSTEMS = ("hog_svm",)
FIT = ("C", "gamma", "class_weight", "components")  # of `HogSvm.fit`; the rest build the module


def train_svm(run: Run, _: TensorBoardLog) -> Path:
    """Fit on the training split, scale its probabilities on validation; returns the checkpoint."""
    run.check_output()
    recipe = run.recipe
    if recipe.heads != ("label",) or run.further:
        told = ", ".join([*recipe.heads, *(faces.name for faces in run.further)])
        raise ValueError(f"{recipe.system} learns the labels of one data set, not {told}")
    torch.manual_seed(run.seed)
    batches = run.faces.batches(recipe, run.seed, torch.device("cpu"))
    args = {k: v for k, v in recipe.system_args.items() if k not in FIT}
    model = models.build(
        recipe.system,
        num_classes=len(run.faces.class_names),
        in_channels=recipe.channels,
        **args,
        size=recipe.size,
    )
    settings = {k: v for k, v in recipe.system_args.items() if k in FIT}
    images, labels = whole(batches["train"])
    if settings.get("components", 0) > len(images):
        settings["components"] = len(images)
        print(f"{run.stem}: {len(images)} faces span no more than as many components")
    start = time.perf_counter()
    model.fit(images, labels, calibrate=whole(batches["validation"]), seed=run.seed, **settings)
    minutes = (time.perf_counter() - start) / 60
    card: dict[str, Any] = run.card(model.arguments())
    card |= {"minutes": round(minutes, 2), "hardware": hardware(torch.device("cpu"))}
    card |= measured(model, run, batches["validation"], torch.device("cpu"))
    run.folder.mkdir(parents=True, exist_ok=True)
    path = save_network(run.checkpoint, model, card)
    model_card.write(path, Results(run.out / "results"))
    return path


def whole(batches: Batches) -> tuple[Tensor, Tensor]:
    """All pictures (N, C, H, W) and labels (N,) of a split, in the order of the loader."""
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)
