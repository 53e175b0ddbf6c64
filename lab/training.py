"""Train one recipe on one data set: the loop's settings, the run's folder, resuming."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

import systems
import transfer
from hf_collate import Batches
from insight import metrics
from lab import cards
from lab.board import Board
from lab.data import Faces, preprocess
from lab.evaluation import found
from lab.origin import hardware, learnt_from, revision, stages, versions
from lab.recipes import Recipe
from lab.results import Results
from lab.teaching import taught_targets
from train_loop import History, load_checkpoint, read_card, save_checkpoint, train
from train_state import load_state, save_state

__all__ = ["Run", "fast_precision", "find_run", "train_network"]


def fast_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor or GPU is made for it, float16 on an older GPU."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if device.type == "cpu" and fast else torch.float32


def precision_of(recipe: Recipe, device: torch.device) -> torch.dtype:
    auto = recipe.precision == "auto"
    return fast_precision(device) if auto else getattr(torch, recipe.precision)


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
    """(by epoch or None, by batch or None). Both multiply the rate, so they combine."""
    lrs = torch.optim.lr_scheduler
    if recipe.schedule == "onecycle":
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


def balanced(labels: Tensor, num_classes: int) -> Tensor:
    """Weights that let each class count the same: n / (classes · n_class); absent classes 0."""
    counts = torch.bincount(labels, minlength=num_classes).float()
    return torch.where(counts > 0, labels.numel() / (num_classes * counts.clamp(min=1)), 0.0)


def start_model(recipe: Recipe, class_names: list[str]) -> nn.Module:
    """The network before its first step: random, pretrained, or one that goes on learning.

    Raises ValueError when `recipe.start` is of another network or knows other classes.
    """
    args = dict(recipe.system_args)
    if recipe.weights:
        args["weights"] = found(recipe.weights)
    model = systems.build(
        recipe.system, num_classes=len(class_names), in_channels=recipe.channels, **args
    )
    if recipe.start:
        state, card = load_checkpoint(found(recipe.start))
        theirs = card["system"], card["system_args"], card["class_names"]
        if theirs != (recipe.system, recipe.system_args, class_names):
            raise ValueError(
                f"{recipe.start} is {' '.join(map(str, theirs))}; to go on from it, the run must "
                f"have the same, not {recipe.system} {recipe.system_args} {class_names}"
            )
        model.load_state_dict(state)
    return model


def train_head(
    model: nn.Module, recipe: Recipe, batches: dict[str, Batches], device: torch.device
) -> History:
    """First phase of transfer: the backbone frozen, only the head learns. Then all is free."""
    transfer.freeze(model)
    history = train(
        model,
        batches["train"],
        batches["validation"],
        transfer.optimizer(model, recipe.head_lr, weight_decay=recipe.weight_decay),
        epochs=recipe.head_epochs,
        device=device,
        keep_best=True,
        on_epoch=say(recipe.head_epochs, "head "),
        progress=sys.stderr.isatty(),
    )
    transfer.unfreeze(model)
    return history


def say(epochs: int, what: str = "") -> Callable[[int, History], None]:
    """One line an epoch, for logs."""

    def line(epoch: int, history: History) -> None:
        figures = "  ".join(f"{key} {values[-1]:.4f}" for key, values in history.items())
        print(f"{what}epoch {epoch + 1:3d}/{epochs}  {figures}", flush=True)

    return line


class Watched:
    """A loader seen through one progress bar over all epochs: faces a second, time to the end."""

    def __init__(self, batches: Batches, epochs: int, done: int, name: str) -> None:
        self.batches = batches
        count = len(batches.rows)
        self.bar = tqdm(
            total=epochs * count, initial=done * count, desc=name, unit=" faces",
            smoothing=0.05, disable=not sys.stderr.isatty(),
        )  # fmt: skip

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in self.batches:
            yield images, labels
            self.bar.update(len(labels))


@dataclass(frozen=True)
class Run:
    """One recipe on one data set with one seed, and where it writes."""

    name: str  # of the recipe
    recipe: Recipe
    faces: Faces
    seed: int
    device: torch.device
    folder: Path  # runs/<timestamp>/<experiment>/<model>/<extra>
    out: Path  # holds checkpoints/ and results/
    command: str

    @property
    def stem(self) -> str:
        """File name of the checkpoint and of everything measured on it."""
        return f"{self.name}-{self.faces.name}" + (f"-seed{self.seed}" if self.seed else "")

    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoints" / f"{self.stem}.safetensors"

    def check_output(self) -> None:
        """ValueError where the checkpoint exists already: an exported network is not replaced."""
        path = self.checkpoint
        if not path.exists():
            return
        begins = self.recipe.start and Path(found(self.recipe.start)).resolve() == path.resolve()
        reason = "the run starts from it" if begins else "an exported network is never replaced"
        raise ValueError(
            f"this run would write {path}, which exists, and {reason}. Choose another folder "
            "(--out), seed (--seed) or data name (--name), or move the file away"
        )

    def knows_data(self) -> bool:
        """Whether the pretrained weights were learnt on this very data set."""
        path = Path(found(self.recipe.weights))
        if path.suffix != ".safetensors" or not path.is_file():
            return False
        return read_card(path)["data"]["fingerprint"] == self.faces.fingerprint

    def settings(self) -> dict[str, Any]:
        """What must be the same when a run is gone on with."""
        return {"recipe": self.recipe.as_dict(), "fingerprint": self.faces.fingerprint,
                "seed": self.seed}  # fmt: skip

    def card(self, model_args: dict[str, Any]) -> dict[str, Any]:
        """What the checkpoint says of itself before anything is measured."""
        return {
            "system": self.recipe.system,
            "system_args": model_args,
            "class_names": self.faces.class_names,
            "preprocess": preprocess(self.recipe).settings(),
            "temperature": 1.0,
            "crop": self.faces.crop,
            "data": {"name": self.faces.name, "fingerprint": self.faces.fingerprint},
            "seed": self.seed,
            "versions": versions(),
            "command": self.command,
            "recipe": self.recipe.as_dict(),
            "revision": revision(),
            "learnt_from": learnt_from(self.recipe),
            "stages": stages(self.recipe),
        }


def train_network(run: Run) -> Path:
    """Train, or go on from `run.folder/state.pt`; returns the exported checkpoint.

    The best epoch by validation accuracy is kept in `run.folder`, and exported in half
    precision when the run has ended. Raises ValueError when the checkpoint exists already or
    the state was made with other settings.
    """
    run.check_output()
    recipe, device, state_path = run.recipe, run.device, run.folder / "state.pt"
    torch.manual_seed(run.seed)
    batches = run.faces.batches(recipe, run.seed, device)
    loader, class_names = batches["train"], run.faces.class_names
    model = start_model(recipe, class_names).to(device, memory_format=torch.channels_last)
    resumed = check_settings(load_state(state_path), run) if state_path.exists() else {}
    head_history = resumed.get("head_history", {})
    if recipe.head_epochs and not resumed:
        head_history = train_head(model, recipe, batches, device)
    if recipe.teacher:
        targets = taught_targets(recipe, run.faces, loader.rows, device)
        loader.labels = targets.to(loader.labels.device)
    weights = balanced(hard_labels(loader), len(class_names)) if recipe.class_weights else None
    loss_fn = nn.CrossEntropyLoss(weights, label_smoothing=recipe.label_smoothing).to(device)
    optimizer = make_optimizer(model, recipe)
    by_epoch, by_batch = make_schedules(optimizer, recipe, len(loader))
    precision = precision_of(recipe, device)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    parts = {"model": model, "optimizer": optimizer, "by_epoch": by_epoch, "by_batch": by_batch,
             "scaler": scaler}  # fmt: skip
    history: History = {}
    if resumed:
        history = load_state(state_path, **parts)["history"]
        print(f"{run.stem}: going on after epoch {len(history['lr'])}, from {run.folder}")
    done = len(history.get("lr", []))
    loader.epoch = recipe.head_epochs + done  # the order and the changes that come next
    grow(loader, recipe, done)
    board = Board(run.folder / "board", class_names, preprocess(recipe))
    if not resumed:
        board.start(model, loader)
    watched = Watched(loader, recipe.epochs, done, run.stem)
    report = say(recipe.epochs)

    def after(epoch: int, history: History) -> bool:
        save_state(state_path, **parts, history=history, head_history=head_history,
                   settings=run.settings())  # fmt: skip
        board.epoch(epoch, history)
        grow(loader, recipe, epoch + 1)
        if not sys.stderr.isatty():
            report(epoch, history)
        return stalled(history, recipe.stop, recipe.stop_patience)

    over = history and stalled(history, recipe.stop, recipe.stop_patience)
    card = run.card({**recipe.system_args})
    train(
        model,
        watched,
        batches["validation"],
        optimizer,
        epochs=0 if over else recipe.epochs - done,
        loss_fn=loss_fn,
        device=device,
        scheduler=by_epoch,
        batch_scheduler=by_batch,
        best_path=run.folder / "best.safetensors",
        card=card,
        on_epoch=after,
        history=history,
        precision=precision,
        scaler=scaler,
        progress=False,
    )
    watched.bar.close()
    state, card = load_checkpoint(run.folder / "best.safetensors")
    model.load_state_dict(state)
    card["validation"] = count_right(model.half().float(), batches["validation"], device)
    seconds = sum(history["seconds"]) + sum(head_history.get("seconds", []))
    card |= {"history": history, "minutes": round(seconds / 60, 2), "hardware": hardware(device),
             "precision": str(precision).removeprefix("torch.")}  # fmt: skip
    if head_history:
        card["head_history"] = head_history
    path = save_checkpoint(run.checkpoint, model, card, torch.float16)
    cards.write(path, Results(run.out / "results"))
    return path


def count_right(model: nn.Module, batches: Batches, device: torch.device) -> dict[str, int]:
    """{"k": right answers, "n": faces} of a network as it is exported, for its card."""
    logits, labels = metrics.collect(model, batches, device)
    return {"k": int((logits.argmax(1) == labels).sum()), "n": len(labels)}


def grow(loader: Batches, recipe: Recipe, epoch: int) -> None:
    """Give training pictures the side and the changes that the recipe wants in this epoch."""
    if recipe.sides or recipe.plain_epochs:
        loader.augment = recipe.changes(epoch)


def hard_labels(loader: Batches) -> Tensor:
    """Class indices (n,) of the rows that a loader gives, also when its targets are shares."""
    labels = loader.labels[loader.rows.to(loader.labels.device)].cpu()
    return labels.argmax(1) if labels.ndim == 2 else labels


def check_settings(values: dict[str, Any], run: Run) -> dict[str, Any]:
    """The state's values, or ValueError naming the settings in which the run differs."""
    before, now = (
        {**s["recipe"], **{k: s[k] for k in ("fingerprint", "seed")}}
        for s in (values["settings"], run.settings())
    )
    other = [f"{k} {before.get(k)!r} is now {now[k]!r}" for k in now if before.get(k) != now[k]]
    if other:
        raise ValueError(
            f"{run.folder} was trained with other settings: {'; '.join(other)}. "
            "Give the same ones, or start anew without --resume"
        )
    return values


def find_run(runs: Path, *parts: str) -> Path | None:
    """The newest runs/<timestamp>/… of an experiment, model and extra that has a state."""
    found = sorted(runs.glob("/".join(["*", *parts, "state.pt"])))
    return found[-1].parent if found else None
