"""Train one recipe on one data set, or go on with a run that was interrupted."""

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

import transfer
from expression.checkpoint import load_checkpoint, read_card, resolve_checkpoint
from hf_collate import Batches
from lab import metrics, model_card, models
from lab.averaging import moving_average, statistics_batches
from lab.calibration import calibrate
from lab.calibration_data import validation_truth
from lab.data import Faces
from lab.distillation import SameView, taught_targets
from lab.export import as_saved, save_network
from lab.failures import told_failures
from lab.finetuning import fitted_weights
from lab.further_data import joined_loader
from lab.heads import HeadLoss, attach, fill_heads, hard_labels
from lab.optimization import balanced, end_words, make_optimizer, make_schedules, stalled
from lab.precision import precision_name, precision_of
from lab.processes import ALONE, Processes, told_lost
from lab.provenance import hardware
from lab.recipe import Recipe
from lab.results import Results
from lab.resuming import STATE, read_state
from lab.run import Run
from lab.sampling import class_sampling_weights, weighted_order
from lab.shards import block_order
from lab.tensorboard_log import TensorBoardLog
from train_loop import History, train
from train_state import load_state, save_state

__all__ = ["measured", "train_network"]


def classes_of_start(recipe: Recipe, faces: Faces) -> Faces:
    """The faces of a run; labelled in the order of `recipe.init_from`, where it names a checkpoint.

    Labels are moved, not rows of the network's last layer: labels are the same in every system,
    while each system would have to say which of its parameters belong to a class.
    With `recipe.fine_tune` the network gets the data's classes, see `lab.finetuning`.
    Raises ValueError when that checkpoint knows other classes than the data.
    """
    if not recipe.init_from or recipe.fine_tune:
        return faces
    names = read_card(resolve_checkpoint(recipe.init_from))["class_names"]
    try:
        return faces.with_classes(names, recipe.init_from)
    except ValueError as error:
        raise ValueError(
            f"{error}; `train finetune --init-from {recipe.init_from}` trains on these classes"
        ) from error


def pretrained(weights: str) -> str:
    """A recipe's `weights`: "imagenet", or the path of a file."""
    return weights if weights == "imagenet" else str(resolve_checkpoint(weights))


def start_model(recipe: Recipe, class_names: list[str], heads: tuple[str, ...]) -> nn.Module:
    """The network before its first step: random, pretrained, or one that goes on learning.

    Where the checkpoint that it goes on from has other heads, see `lab.heads.fill_heads`.

    Raises ValueError when `recipe.init_from` is of another network or knows other classes.
    """
    if recipe.init_from:  # its network first: a file that does not fit its card takes no memory
        start = resolve_checkpoint(recipe.init_from)
        models.restore_checkpoint(start)
    args = dict(recipe.system_args)
    if recipe.weights:
        args["weights"] = pretrained(recipe.weights)
    model = models.build(
        recipe.system, num_classes=len(class_names) * len(heads),
        in_channels=recipe.channels, **args,
    )  # fmt: skip
    if recipe.init_from:
        state, card = load_checkpoint(start)
        if recipe.fine_tune:
            weights = models.as_tensors(state)
            model.load_state_dict(fitted_weights(weights, card, model, class_names, heads))
            return model
        kind = card["system"], card["system_args"], card["class_names"]
        if kind != (recipe.system, recipe.system_args, class_names):
            raise ValueError(
                f"{recipe.init_from} is {' '.join(map(str, kind))}; to go on from it, the run "
                f"must have the same, not {recipe.system} {recipe.system_args} {class_names}"
            )
        theirs = list(card.get("heads", ["label"]))
        filled = fill_heads(models.as_tensors(state), model, theirs, heads)
        model.load_state_dict(filled)
    return model


def train_head(
    model: nn.Module,
    recipe: Recipe,
    batches: dict[str, Batches],
    device: torch.device,
    loss_fn: nn.Module | None = None,
    processes: Processes = ALONE,
) -> History:
    """First phase of transfer: the backbone frozen, only the head learns. Then all is free."""
    transfer.freeze(model)
    history = train(
        processes.wrap(model),
        batches["train"],
        batches["validation"],
        transfer.optimizer(model, recipe.head_lr, weight_decay=recipe.weight_decay),
        epochs=recipe.head_epochs,
        loss_fn=processes.loss(loss_fn or nn.CrossEntropyLoss()),
        device=device,
        keep_best=True,
        on_epoch=epoch_printer(recipe.head_epochs, "head "),
        progress=processes.show_progress(),
        tally=processes.tally(model, batches["train"].part),
    )
    transfer.unfreeze(model)
    return history


def epoch_printer(epochs: int, what: str = "") -> Callable[[int, History], None]:
    """One line an epoch, for logs."""

    def line(epoch: int, history: History) -> None:
        figures = "  ".join(f"{key} {values[-1]:.4f}" for key, values in history.items())
        print(f"{what}epoch {epoch + 1:3d}/{epochs}  {figures}", flush=True)

    return line


class WithProgress:
    """A loader seen through one progress bar over all epochs: faces a second, time to the end."""

    def __init__(
        self, batches: Batches | SameView, epochs: int, done: int, name: str,
        processes: Processes = ALONE, seed: int = 0,
    ) -> None:  # fmt: skip
        self.batches, self.epochs, self.processes, self.seed = batches, epochs, processes, seed
        self.epoch, self.batch = done, 0  # begun, from 1 on; 0: before the first, or after the last
        count = len(batches.rows)
        self.bar = tqdm(
            total=epochs * count, initial=done * count, desc=name, unit=" faces",
            smoothing=0.05, disable=not processes.show_progress(),
        )  # fmt: skip

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.processes.seed(self.seed, self.epoch)
        self.epoch += 1
        for images, labels in self.batches:
            self.batch += 1
            yield images, labels
            self.bar.update(len(labels) * self.processes.count)
        self.batch = 0

    def where(self) -> str:
        """The epoch and the batch that is shown."""
        batch = f", training batch {self.batch}" if self.batch else ", between training batches"
        return f"epoch {max(self.epoch, 1)} of {self.epochs}{batch}"


def train_network(run: Run, board: TensorBoardLog) -> Path:
    """Train, or go on from `run.folder/state.pt`; returns the exported checkpoint.

    The best epoch by validation accuracy, or the last (`recipe.keep`), is kept in `run.folder`,
    and exported in half precision when the run has ended. Raises ValueError when the checkpoint
    exists already, the state was made with other settings, or all faces have one label. Of several
    processes the main one writes; the others return when the last epoch is done.
    """
    processes = run.processes
    run.check_classes()
    if processes.main:
        run.check_output()
    run = replace(run, faces=classes_of_start(run.recipe, run.faces))
    recipe, device, state_path = run.recipe, run.device, run.folder / STATE
    torch.manual_seed(run.seed)
    with processes.first_here():
        batches = run.faces.batches(recipe, run.seed, device)
        if run.further:
            batches["train"] = joined_loader(batches["train"], recipe, run.further)
    part = processes.part()
    whole_validation = batches["validation"]
    if part:
        batches = {name: replace(rows, part=part) for name, rows in batches.items()}
    loader, class_names = batches["train"], run.faces.class_names
    card = run.card({**recipe.system_args})
    model = attach(start_model(recipe, class_names, run.heads), card)
    model = model.to(device, memory_format=torch.channels_last)
    many = recipe.heads != ("label",) or bool(run.further)
    if power := recipe.weighted_sampling:
        weights = class_sampling_weights(hard_labels(run.targets)[loader.rows], power)
        loader.order = partial(weighted_order, weights)
    elif recipe.shuffle_buffer and isinstance(loader, Batches):  # a stream has a buffer of its own
        loader.order = partial(block_order, len(loader.rows), recipe.shuffle_buffer)
    if many:
        loader.labels = run.targets.to(loader.labels.device)
    state_here = processes.file_of_main(state_path)
    resumed = read_state(replace(run, folder=state_here.parent))
    head_history = resumed.get("head_history", {})
    if recipe.fine_tune and not resumed and processes.main:
        logits, labels = metrics.collect(model, whole_validation, device)
        before = metrics.evaluate(logits, labels, class_names)
        print(f"Before fine-tuning: validation {before}", flush=True)
    if recipe.head_epochs and not resumed:
        loss_fn = HeadLoss().to(device) if many else None
        processes.seed(run.seed, -1)
        head_history = train_head(model, recipe, batches, device, loss_fn, processes)
    weights = None
    if recipe.class_weights:  # of the labels, before a teacher's answers are mixed in
        weights = balanced(hard_labels(loader.labels[loader.rows]).cpu(), len(class_names))
    if recipe.teacher and recipe.teacher_view == "stored":
        with processes.first_here():
            loader.labels = stored_answers(run, loader, device)
    loss_fn = make_loss(recipe, weights, many).to(device)
    optimizer = make_optimizer(model, recipe)
    by_epoch, by_batch = make_schedules(optimizer, recipe, len(loader))
    precision = processes.from_main(lambda: precision_of(recipe, resumed, model, loss_fn, loader))
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    averaged = moving_average(model, recipe.average) if recipe.average else None
    parts = {"model": model, "optimizer": optimizer, "by_epoch": by_epoch, "by_batch": by_batch,
             "scaler": scaler, "averaged": averaged}  # fmt: skip
    history: History = {}
    if resumed:
        history = load_state(state_here, **parts)["history"]
        print(f"{run.stem}: going on after epoch {len(history['lr'])}, from {run.folder}")
    done = len(history.get("lr", []))
    loader.epoch = recipe.head_epochs + done  # the order and the changes that come next
    set_epoch_augmentation(loader, recipe, done)
    if resumed and processes.main:
        board.resume(history)
    elif processes.main:
        board.start(model, loader)
    same = recipe.teacher and recipe.teacher_view == "same"
    shown = SameView(loader, recipe, run.faces, device, run.heads) if same else loader
    with_progress = WithProgress(shown, recipe.epochs, done, run.stem, processes, run.seed)
    report = epoch_printer(recipe.epochs)

    kept_path = run.folder / f"{recipe.keep}.safetensors"

    def keep(_: nn.Module, chosen: dict[str, Any]) -> None:
        if processes.main:
            network = averaged.module if averaged else model
            save_network(kept_path, network, {**card, **chosen}, half=False)

    def after(epoch: int, history: History) -> bool:
        if recipe.keep == "last":
            figures = {key: history[key][epoch] for key in ("val_accuracy", "val_loss")}
            keep(model, {"epoch": epoch, **figures})
        if processes.main:
            save_state(state_path, **parts, history=history, head_history=head_history,
                       settings=run.settings(), precision=precision_name(precision))  # fmt: skip
            board.epoch(epoch, history)
        set_epoch_augmentation(loader, recipe, epoch + 1)
        if not sys.stderr.isatty():
            report(epoch, history)
        return stalled(history, recipe.stop, recipe.stop_patience)

    over = history and stalled(history, recipe.stop, recipe.stop_patience)
    here = processes.main or state_path.parent.exists()  # another machine cannot say what is kept
    told = told_failures(run.stem, with_progress.where, state_path) if here else nullcontext()
    with told, told_lost():
        train(
            processes.wrap(model),
            with_progress,
            batches["validation"],
            optimizer,
            epochs=0 if over else recipe.epochs - done,
            loss_fn=processes.loss(loss_fn),
            device=device,
            scheduler=by_epoch,
            batch_scheduler=by_batch,
            on_best=keep if recipe.keep == "best" else None,
            on_epoch=after,
            history=history,
            precision=precision,
            scaler=scaler,
            progress=False,
            averaged=averaged,
            statistics_loader=statistics_batches(loader) if averaged else None,
            tally=processes.tally(model, part),
        )
    with_progress.bar.close()
    if not processes.main:
        return run.checkpoint
    state, card = load_checkpoint(kept_path)
    if early := end_words(history, recipe.stop, recipe.stop_patience, recipe.epochs):
        print(f"{early}; kept is epoch {card['epoch'] + 1}")
    model.load_state_dict(models.as_tensors(state))
    card |= measured(as_saved(model), run, whole_validation, device)
    seconds = sum(history["seconds"]) + sum(head_history.get("seconds", []))
    card |= {"history": history, "minutes": round(seconds / 60, 2),
             "hardware": hardware(device, processes.count),
             "precision": precision_name(precision)}  # fmt: skip
    if head_history:
        card["head_history"] = head_history
    run.check_output()  # again: another run may have written it meanwhile
    path = save_network(run.checkpoint, model, card)
    model_card.write(path, Results(run.out / "results"))
    return path


def make_loss(recipe: Recipe, class_weights: Tensor | None, many: bool) -> nn.Module:
    """The training loss, for several heads or one; validation is always by plain cross-entropy."""
    if not (many or recipe.focal_gamma):
        return nn.CrossEntropyLoss(class_weights, label_smoothing=recipe.label_smoothing)
    return HeadLoss(class_weights, recipe.label_smoothing, recipe.focal_gamma)


def measured(model: nn.Module, run: Run, batches: Batches, device: torch.device) -> dict[str, Any]:
    """What a card says of a network as it is exported, from its validation split: how many answers
    are right, and the temperature and threshold fitted there (see `lab.calibration`).

    The truth is the crowd's majority where the network learnt from votes, else the label.
    """
    logits, labels = metrics.collect(model, batches, device)
    counted = metrics.evaluate(logits, labels, run.faces.class_names).for_card()
    crowd = bool({"votes", "mean"} & set(run.recipe.heads))
    right, truth = validation_truth(run.faces, batches.rows, crowd)
    fitted = calibrate(logits.numpy(), right.numpy(), data=run.faces.name, truth=truth)
    return {"validation": counted, **fitted.for_card()}


def set_epoch_augmentation(loader: Batches, recipe: Recipe, epoch: int) -> None:
    """Give training pictures the side and the changes that the recipe wants in this epoch."""
    loader.mix = recipe.mixup_for(epoch)
    if recipe.progressive_sizes or recipe.final_unaugmented_epochs:
        loader.augment = recipe.augmentation_for(epoch)


def stored_answers(run: Run, loader: Batches, device: torch.device) -> Tensor:
    """The loader's targets, those of the run's own data set mixed with stored teachers' answers."""
    count = len(run.faces.labels("train"))
    rows = loader.rows[loader.rows < count]
    taught = taught_targets(run.recipe, run.faces, rows, device).to(loader.labels.device)
    if not run.further:
        return taught
    targets = loader.labels.clone()
    targets[:count, : len(run.recipe.heads)] = taught.view(count, -1, taught.shape[-1])
    return targets
