"""How weights are fitted: optimizer, learning rate, early stopping."""

import torch
from torch import Tensor, nn

import transfer
from lab.recipe import Recipe
from train_loop import History

__all__ = [
    "balanced",
    "make_optimizer",
    "make_schedules",
    "stalled",
]


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.head_epochs:  # pretrained: the backbone takes smaller steps than the head
        return transfer.optimizer(model, recipe.lr, weight_decay=recipe.weight_decay)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(), recipe.lr, momentum=0.9, nesterov=True,
            weight_decay=recipe.weight_decay,
        )  # fmt: skip
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(model.parameters(), recipe.lr, weight_decay=recipe.weight_decay)


def make_schedules(optimizer: torch.optim.Optimizer, recipe: Recipe, batches: int) -> tuple:
    """(by epoch or None, by batch or None). Both multiply the rate, so they combine.

    A cycle of fewer than 8 batches has no room to rise and fall (torch divides by the length
    of each part): the rate then stays the recipe's.
    """
    lrs = torch.optim.lr_scheduler
    if recipe.schedule == "onecycle":
        if recipe.epochs * batches < 8:
            return None, None
        rates = [group["lr"] for group in optimizer.param_groups]
        return None, lrs.OneCycleLR(
            optimizer, rates, total_steps=recipe.epochs * batches, pct_start=0.25
        )
    by_batch = None
    if recipe.warmup:
        steps = recipe.warmup * batches
        by_batch = lrs.LinearLR(optimizer, start_factor=1 / steps, total_iters=steps)
    if recipe.schedule == "step":
        return lrs.StepLR(optimizer, recipe.step_size, recipe.gamma), by_batch
    if recipe.schedule == "plateau":
        return lrs.ReduceLROnPlateau(
            optimizer, factor=recipe.factor, patience=recipe.patience
        ), by_batch
    return None, by_batch


def stalled(history: History, stop: str, patience: int) -> bool:
    """Whether the best validation figure lies more than `patience` epochs back."""
    if stop == "never":
        return False
    values = [-loss for loss in history["val_loss"]] if stop == "loss" else history["val_accuracy"]
    return len(values) - 1 - max(range(len(values)), key=values.__getitem__) >= patience


def end_words(history: History, stop: str, patience: int, epochs: int) -> str:
    """Why a training ended before its last epoch, in a sentence; "" where it did not."""
    done = len(history["lr"])
    if done >= epochs or not stalled(history, stop, patience):
        return ""
    figure = "loss" if stop == "loss" else "accuracy"
    return f"stopped after epoch {done} of {epochs}: validation {figure} no better for {patience}"


def balanced(labels: Tensor, num_classes: int) -> Tensor:
    """Weights that let each class count the same: n / (classes · n_class); absent classes 0."""
    counts = torch.bincount(labels, minlength=num_classes).float()
    return torch.where(counts > 0, labels.numel() / (num_classes * counts.clamp(min=1)), 0.0)
