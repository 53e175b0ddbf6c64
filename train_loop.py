"""A training loop plain enough to read aloud and exact enough to quote.

Why: loss and accuracy are sums over images divided once, so a short last batch
weighs what it holds (a mean of batch means does not); evaluation runs in
`eval()` and `inference_mode`; frozen BatchNorm keeps its statistics; the best
epoch is chosen on validation, and kept or handed to a function that saves it.
An empty loader, a label outside the classes or a loss that is no number is an
error that says which batch.
Source: written for this project.
Needs torch and tqdm; copy freely (MIT, see LICENSE).
"""

import time
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn
from tqdm.auto import tqdm

__all__ = [
    "History",
    "Tally",
    "test_step",
    "train",
    "train_mode",
    "train_step",
]

History = dict[str, list[float]]
Loader = Iterable[tuple[Tensor, Tensor]]
CHECK_EVERY = 32  # batches between looks at the loss: a look makes a GPU wait


class Tally:
    """Sums over the images of one pass; raises when a batch cannot be right."""

    def __init__(self, split: str) -> None:
        self.split, self.seen = split, 0
        self.sizes: list[int] = []
        self.losses: list[Tensor] = []  # mean loss of each batch, left on the device
        self.hits: list[Tensor] = []

    def check_labels(self, labels: Tensor, num_classes: int) -> None:
        """A label outside the classes is an opaque device error on a GPU: look before."""
        if labels.is_floating_point():  # targets as probabilities
            return
        outside = (labels < 0) | (labels >= num_classes)
        if outside.any():
            raise ValueError(
                f"{self.split} batch {len(self.sizes)}: label {labels[outside][0].item()} at "
                f"position {int(outside.nonzero()[0])}, but the model has {num_classes} outputs "
                f"(labels 0 to {num_classes - 1})"
            )

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.losses.append(loss.detach())
        if labels.ndim == 3:  # several heads: accuracy is that of the first one with a target
            first = (labels.sum(2) > 0).int().argmax(1)
            rows = torch.arange(len(labels), device=labels.device)
            logits, labels = logits.unflatten(1, labels.shape[1:])[rows, first], labels[rows, first]
        labels = labels.argmax(dim=1) if labels.ndim == 2 else labels
        self.hits.append((logits.detach().argmax(dim=1) == labels).sum())
        self.sizes.append(len(labels))
        self.seen += len(labels)
        if loss.device.type == "cpu":
            self.check_loss(-1)
        elif len(self.sizes) % CHECK_EVERY == 0:
            self.check_loss(-CHECK_EVERY)

    def check_loss(self, first: int = 0) -> None:
        if not self.losses:
            return
        recent = torch.stack(self.losses[first:]).float().cpu()
        for offset in (~recent.isfinite()).nonzero()[:1].flatten().tolist():
            batch = len(self.losses) - len(recent) + offset
            raise FloatingPointError(
                f"{self.split} batch {batch} of {self.sizes[batch]} images: the loss is "
                f"{recent[offset].item()}; look at its pictures for NaN, or lower the learning rate"
            )

    def sums(self) -> Tensor:
        """(3,) float64: the loss summed over images, right answers, images."""
        sums = torch.zeros(3, dtype=torch.float64)
        if self.losses:
            self.check_loss()
            sizes = torch.tensor(self.sizes, dtype=torch.float64)
            sums[0] = torch.stack(self.losses).double().cpu() @ sizes
            sums[1], sums[2] = torch.stack(self.hits).sum().item(), self.seen
        return sums

    def result(self) -> tuple[float, float]:
        """(mean loss in nats, accuracy in [0, 1]), both per image."""
        loss, right, seen = self.sums().tolist()
        if not seen:
            raise ValueError(
                f"empty {self.split} loader: nothing to average; "
                "look at the split's size, or at drop_last with a large batch_size"
            )
        return loss / seen, right / seen


def train_mode(model: nn.Module) -> None:
    """`model.train()`, except that frozen BatchNorm keeps its statistics.

    `requires_grad=False` stops gradients only; running means go on moving in train mode.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
            module.train(module.weight.requires_grad)


def autocast(device: torch.device | str, precision: torch.dtype) -> torch.autocast:
    """The forward pass in `precision`; float32 leaves everything as it is."""
    return torch.autocast(torch.device(device).type, precision, enabled=precision != torch.float32)


def train_step(
    model: nn.Module,
    dataloader: Loader,
    loss_fn: nn.Module,
    optimizer: torch.optim.Optimizer,
    device: torch.device | str,
    *,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    precision: torch.dtype = torch.float32,
    scaler: torch.amp.GradScaler | None = None,
    averaged: AveragedModel | None = None,
    tally: Callable[[str], Tally] = Tally,
) -> tuple[float, float]:
    """Train for one pass: (mean loss in nats, accuracy in [0, 1]), both per image.

    `loss_fn` averages over its batch. Labels are (N,) int64, or (N, num_classes)
    probabilities, or (N, heads, num_classes) for a model with several heads. `averaged`
    takes up the weights after each step. Figures are taken as the weights change, with
    augmentation and dropout on, so they are not those of the final weights. A `scheduler`
    given here steps after every batch. `precision` below float32 turns on autocast; float16 needs
    a `scaler`. `tally` makes the sums of a pass; a subclass may add up over processes. Raises
    ValueError on an empty loader or a label outside the classes, FloatingPointError when the
    loss is no number, each naming the batch. Labels that a loader gives on a GPU are looked at in
    the first batch alone, since a look makes it wait.
    """
    train_mode(model)
    sums = tally("train")
    scaler = scaler or torch.amp.GradScaler(enabled=False)
    for images, given in dataloader:
        images = images.to(device, non_blocking=True)
        labels = given.to(device, non_blocking=True)
        with autocast(device, precision):
            logits = model(images)  # (N, num_classes)
        logits = logits.float()
        if given.device.type == "cpu" or not sums.seen:
            sums.check_labels(given, logits.shape[1])
        loss = loss_fn(logits, labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        sums.add(loss, logits, labels)  # raises before NaN reaches the weights (a GPU: soon after)
        scaler.step(optimizer)
        scaler.update()
        if averaged is not None:
            averaged.update_parameters(model)
        if scheduler is not None:
            scheduler.step()
    return sums.result()


@torch.inference_mode()
def test_step(
    model: nn.Module,
    dataloader: Loader,
    loss_fn: nn.Module,
    device: torch.device | str,
    *,
    precision: torch.dtype = torch.float32,
    tally: Callable[[str], Tally] = Tally,
) -> tuple[float, float]:
    """Evaluate once: (mean loss in nats, accuracy in [0, 1]), both per image.

    `loss_fn` averages over its batch. Raises as `train_step` does.
    """
    model.eval()
    sums = tally("evaluation")
    for images, given in dataloader:
        images = images.to(device, non_blocking=True)
        labels = given.to(device, non_blocking=True)
        with autocast(device, precision):
            logits = model(images)
        logits = logits.float()
        if given.device.type == "cpu" or not sums.seen:
            sums.check_labels(given, logits.shape[1])
        sums.add(loss_fn(logits, labels), logits, labels)
    return sums.result()


test_step.__test__ = False  # pytest: not a test


def train(
    model: nn.Module,
    train_loader: Loader,
    val_loader: Loader,
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    loss_fn: nn.Module | None = None,
    device: torch.device | str = "cpu",
    scheduler: Any = None,
    batch_scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    on_best: Callable[[nn.Module, dict[str, Any]], Any] | None = None,
    keep_best: bool = False,
    on_epoch: Callable[[int, History], bool | None] | None = None,
    history: History | None = None,
    precision: torch.dtype = torch.float32,
    scaler: torch.amp.GradScaler | None = None,
    progress: bool = True,
    averaged: AveragedModel | None = None,
    statistics_loader: Loader | None = None,
    tally: Callable[[str], Tally] = Tally,
) -> History:
    """Train and validate for `epochs` passes; return the history, a dict of lists.

    Keys: train_loss, val_loss (nats per image; validation always by plain
    cross-entropy, so that runs with other losses compare), train_accuracy,
    val_accuracy (in [0, 1]), lr (the largest, at the epoch's end), seconds. The best
    epoch has the highest validation accuracy, ties going to the lower loss;
    `on_best(model, {"epoch", "val_accuracy", "val_loss"})` is called whenever one is the
    best so far, and may save it; `keep_best` puts its weights back into the model at the
    end; where no epoch is better than those of a `history` passed in, the model keeps its
    last weights. `scheduler` steps
    each epoch (ReduceLROnPlateau gets val_loss), `batch_scheduler` each batch.
    `on_epoch(epoch, history)` is called after each epoch; True stops. A `history`
    passed in is extended in place, so an interrupt loses nothing, and is gone on from:
    epochs count on, and only a better one calls `on_best`.
    With `averaged` the averaged network is the one validated and handed on; before that its
    BatchNorm statistics are taken anew from the pictures of `statistics_loader`, since
    those of `model` belong to other weights. `tally` as in `train_step`.
    """
    loss_fn, plain_loss = loss_fn or nn.CrossEntropyLoss(), nn.CrossEntropyLoss()
    model.to(device)
    shown = model if averaged is None else averaged.module
    history = {} if history is None else history
    known = zip(history.get("val_accuracy", []), history.get("val_loss", []), strict=True)
    best = max(((accuracy, -loss) for accuracy, loss in known), default=None)
    best_state: dict[str, Tensor] = {}
    first = len(history.get("val_loss", []))
    passes = range(first, first + epochs)
    with tqdm(passes, desc="epochs", disable=not progress, leave=False) as bar:
        for epoch in bar:
            start = time.perf_counter()
            train_loss, train_accuracy = train_step(
                model,
                train_loader,
                loss_fn,
                optimizer,
                device,
                scheduler=batch_scheduler,
                precision=precision,
                scaler=scaler,
                averaged=averaged,
                tally=tally,
            )
            if averaged is not None and statistics_loader is not None:
                update_bn(statistics_loader, shown, device)
            val_loss, val_accuracy = test_step(
                shown, val_loader, plain_loss, device, precision=precision, tally=tally
            )
            figures = {
                "train_loss": train_loss,
                "val_loss": val_loss,
                "train_accuracy": train_accuracy,
                "val_accuracy": val_accuracy,
                "lr": max(group["lr"] for group in optimizer.param_groups),
                "seconds": time.perf_counter() - start,
            }
            for key, value in figures.items():
                history.setdefault(key, []).append(value)
            bar.set_postfix({k: f"{v:.3f}" for k, v in figures.items() if k.startswith("val")})
            if best is None or (val_accuracy, -val_loss) > best:
                best = (val_accuracy, -val_loss)
                if keep_best:
                    best_state = deepcopy(shown.state_dict())
                if on_best is not None:
                    chosen = {"epoch": epoch, "val_accuracy": val_accuracy, "val_loss": val_loss}
                    on_best(shown, chosen)
            if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
                scheduler.step(val_loss)
            elif scheduler is not None:
                scheduler.step()
            if on_epoch is not None and on_epoch(epoch, history):
                break
    if best_state:
        model.load_state_dict(best_state)
    return history


def demonstrate() -> None:
    """Train on two clouds of points; show the batch-mean mistake on the last batch."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (45,), generator=generator)
    points = torch.randn(45, 2, generator=generator) + 2.0 * labels[:, None]
    loader = torch.utils.data.DataLoader(list(zip(points, labels, strict=True)), batch_size=32)
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    history = train(model, loader, loader, optimizer, epochs=20, progress=False)
    print({key: round(values[-1], 3) for key, values in history.items()})
    with torch.inference_mode():
        means = [(model(x).argmax(1) == y).float().mean().item() for x, y in loader]
    _, accuracy = test_step(model, loader, nn.CrossEntropyLoss(), "cpu")
    print(
        f"accuracy over images {accuracy * 45:.0f}/45 = {accuracy:.4f}; "
        f"mean of batch means {sum(means) / len(means):.4f}"
    )


if __name__ == "__main__":
    demonstrate()
