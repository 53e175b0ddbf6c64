"""Train the systems that have no epochs: features, then a support vector machine."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_collate import Batches
from lab import model_card
from lab.export import save_network
from lab.models.hog_svm import HogSvm
from lab.provenance import hardware
from lab.results import Results
from lab.run import Run
from lab.tensorboard_log import TensorBoardLog
from lab.training import measured

__all__ = ["SYSTEMS", "fit_svm", "train_svm"]

SYSTEMS = ("hog_svm",)
FIT = ("C", "gamma", "class_weight", "components")  # of `HogSvm.fit`; the rest build the module


def train_svm(run: Run, _: TensorBoardLog) -> Path:
    """Fit on the training split, scale its probabilities on validation; returns the checkpoint."""
    run.check_classes()
    run.check_output()
    model, batches, seconds = fit_svm(run)
    card: dict[str, Any] = run.card(model.arguments())
    card |= {"minutes": round(seconds / 60, 2), "hardware": hardware(torch.device("cpu"))}
    card |= measured(model, run, batches["validation"], torch.device("cpu"))
    run.folder.mkdir(parents=True, exist_ok=True)
    path = save_network(run.checkpoint, model, card)
    model_card.write(path, Results(run.out / "results"))
    return path


def fit_svm(run: Run) -> tuple[HogSvm, dict[str, Batches], float]:
    """The fitted SVM of a run, the loaders of its data, and the seconds of the fit; writes nothing.

    Raises ValueError for a recipe that wants more than the labels of one data set.
    """
    recipe = run.recipe
    if recipe.heads != ("label",) or run.further:
        told = ", ".join([*recipe.heads, *(faces.name for faces in run.further)])
        raise ValueError(f"{recipe.system} learns the labels of one data set, not {told}")
    torch.manual_seed(run.seed)
    batches = run.faces.batches(recipe, run.seed, torch.device("cpu"))
    args = {k: v for k, v in recipe.system_args.items() if k not in FIT}
    model = HogSvm(recipe.channels, len(run.faces.class_names), **args, size=recipe.size)
    settings = {k: v for k, v in recipe.system_args.items() if k in FIT}
    images, labels = whole(batches["train"])
    if settings.get("components", 0) > len(images):
        settings["components"] = len(images)
        print(f"{run.stem}: {len(images)} faces span no more than as many components")
    validation, start = whole(batches["validation"]), time.perf_counter()
    model.fit(images, labels, calibrate=validation, seed=run.seed, **settings)
    return model, batches, time.perf_counter() - start


def whole(batches: Batches) -> tuple[Tensor, Tensor]:
    """All pictures (N, C, H, W) and labels (N,) of a split, in the order of the loader."""
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)
