"""The trainers that `benchmarks.trainers` compares, each given the same task.

Lightning, transformers and fastai are imported by their own rows only, inside the timed part.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.harness import synchronize
from benchmarks.subjects import Augment, Batches, Collate, Preprocess, TinyVGG, decode, train_step

__all__ = ["LR", "OURS", "ROWS", "TRAINERS", "CountingLoss", "Row", "Settings", "Task",
           "make_model", "plain_transform"]  # fmt: skip

HIDDEN, LR = 16, 1e-3


@dataclass(frozen=True)
class Settings:
    """What all rows share; `pictures` is those of one epoch, `runs` the later epochs."""

    pictures: int = 1500
    size: int = 64
    batch_size: int = 64
    runs: int = 2
    device: str = "cpu"


@dataclass(frozen=True)
class Row:
    """A trainer and its loader: "Batches", or "plain" with some worker processes."""

    trainer: str
    loader: str
    workers: int = 0
    channels_last: bool = False

    @property
    def name(self) -> str:
        parts = [self.trainer, self.loader]
        if self.loader == "plain":
            parts.append(str(self.workers))
        if self.channels_last:
            parts.append("channels_last")
        return "-".join(parts)


OURS = Row("train_loop", "Batches")
ROWS = (
    OURS,
    Row("train_loop", "Batches", channels_last=True),  # as the recipes train
    Row("train_loop", "plain", 0),
    Row("train_loop", "plain", 2),
    *(
        row
        for trainer in ("lightning", "transformers", "fastai")
        for row in (Row(trainer, "plain", 2), Row(trainer, "Batches"))
    ),
)


class CountingLoss(nn.CrossEntropyLoss):
    """The loss of every row; it counts the labels it is given, whichever trainer calls it."""

    labels_seen = 0

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        self.labels_seen += len(target)
        return super().forward(input, target)


@dataclass
class Task:
    """What a trainer is given; it tells the clock of its import and of the end of every epoch."""

    settings: Settings
    row: Row
    rows: Dataset
    folder: Path  # for decoded pixels, and for a trainer that wants to write
    loss: CountingLoss = field(default_factory=CountingLoss)
    start: float = field(default_factory=time.perf_counter)
    imports: float = 0.0  # seconds
    ends: list[tuple[float, int]] = field(default_factory=list)  # (clock, labels seen)

    def __post_init__(self) -> None:
        # Here, after `start`: importing torchvision is part of what the plain loader costs.
        plain = self.row.loader == "plain"
        self.collate = Collate(plain_transform(self.settings.size)) if plain else None
        self.epochs = 1 + self.settings.runs
        self.device = torch.device(self.settings.device)
        self.cuda = self.device.type == "cuda"
        torch.manual_seed(0)
        self.model = make_model(self.settings, self.rows)
        if self.row.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LR)

    def imported(self) -> None:
        self.imports = time.perf_counter() - self.start

    def end_epoch(self) -> None:
        synchronize(self.device)
        self.ends.append((time.perf_counter(), self.loss.labels_seen))

    def loader(self) -> Batches | DataLoader:
        """`Batches`, which decodes here, within the first epoch's time; or a plain DataLoader."""
        size, count = self.settings.size, self.settings.batch_size
        if self.collate is None:
            decoded = decode(self.rows, Preprocess(size), self.folder)
            return Batches(decoded, count, shuffle=True, augment=Augment(), device=self.device)
        return DataLoader(
            self.rows, count, shuffle=True, collate_fn=self.collate, pin_memory=self.cuda,
            num_workers=self.row.workers, persistent_workers=self.row.workers > 0,
        )  # fmt: skip


def make_model(settings: Settings, rows: Dataset) -> TinyVGG:
    """The network, already on the device: its optimizer is made before a trainer gets it."""
    return TinyVGG(3, HIDDEN, rows.features["label"].num_classes).to(settings.device)


def plain_transform(size: int) -> Callable[[Any], Tensor]:
    """PIL picture → normalised tensor, one at a time, augmented as much as by `Augment`."""
    from torchvision.transforms import InterpolationMode, v2

    like = Augment()
    return v2.Compose([
        v2.RGB(),
        v2.Resize((size, size)),
        v2.RandomHorizontalFlip(like.flip),
        v2.RandomAffine(like.degrees, (like.shift, like.shift), (1 - like.scale, 1 + like.scale),
                        interpolation=InterpolationMode.BILINEAR),
        v2.ColorJitter(like.brightness, like.contrast),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.5] * 3, [0.5] * 3),
    ])  # fmt: skip


# --- one function for each trainer: import, tell the clock, fit, tell the end of every epoch ---


def train_loop(task: Task) -> None:
    task.imported()
    loader = task.loader()
    for _ in range(task.epochs):
        train_step(task.model, loader, task.loss, task.optimizer, task.device)
        task.end_epoch()


def lightning(task: Task) -> None:
    import lightning.pytorch as pl

    task.imported()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.loss = task.model, task.loss

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            images, labels = batch
            logits = self.model(images)
            loss = self.loss(logits, labels)
            accuracy = (logits.argmax(1) == labels).float().mean()
            # Means over the epoch, as its documentation shows; without a logger they go nowhere.
            self.log_dict({"loss": loss, "accuracy": accuracy}, on_step=False, on_epoch=True,
                          batch_size=len(labels))  # fmt: skip
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return task.optimizer

    class Clock(pl.Callback):
        def on_train_epoch_end(self, *_: Any) -> None:
            task.end_epoch()

    trainer = pl.Trainer(
        accelerator="gpu" if task.cuda else "cpu", devices=1, max_epochs=task.epochs,
        default_root_dir=task.folder, logger=False, enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Clock()],
    )  # fmt: skip
    trainer.fit(Module(), train_dataloaders=task.loader())


def as_dict(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """The form of a batch that the Trainer of transformers wants."""
    return dict(zip(("images", "labels"), batch, strict=True))


@dataclass(frozen=True)
class DictCollate:
    collate: Collate

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        return as_dict(self.collate(rows))


@dataclass(frozen=True)
class DictBatches:
    batches: Batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return map(as_dict, self.batches)


def transformers(task: Task) -> None:
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    task.imported()

    class Clock(TrainerCallback):
        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            task.end_epoch()

    class OwnLoader(Trainer):
        def get_train_dataloader(self) -> Any:
            fast = task.collate is None
            return DictBatches(task.loader()) if fast else super().get_train_dataloader()

        def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor],
                         *_: Any, **__: Any) -> Tensor:  # fmt: skip
            # No training accuracy here: its compute_metrics is for evaluation alone.
            return task.loss(model(inputs["images"]), inputs["labels"])

    # Gradient clipping and a falling rate are its defaults; no other row has them.
    arguments = TrainingArguments(
        output_dir=str(task.folder), num_train_epochs=task.epochs, max_grad_norm=0.0,
        lr_scheduler_type="constant", per_device_train_batch_size=task.settings.batch_size,
        use_cpu=not task.cuda, bf16=False, fp16=False, remove_unused_columns=False,
        disable_tqdm=True, eval_strategy="no", save_strategy="no", logging_strategy="no",
        report_to="none", dataloader_num_workers=task.row.workers,
        dataloader_pin_memory=task.cuda, dataloader_persistent_workers=task.row.workers > 0,
    )  # fmt: skip
    trainer = OwnLoader(
        task.model, arguments, train_dataset=task.rows, callbacks=[Clock()],
        data_collator=task.collate and DictCollate(task.collate),
        optimizers=(task.optimizer, None),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def fastai(task: Task) -> None:
    import fastai.vision.all as vision

    task.imported()
    vision.default_device(task.cuda)

    class Clock(vision.Callback):
        def after_epoch(self) -> None:
            task.end_epoch()

    # Its page "Migrating from PyTorch" passes plain loaders like this. `metrics=accuracy` is
    # computed on validation pictures only, and no row has any.
    learner = vision.Learner(
        vision.DataLoaders(task.loader(), []), task.model, loss_func=task.loss, lr=LR,
        opt_func=vision.OptimWrapper(opt=task.optimizer), metrics=vision.accuracy, cbs=[Clock()],
        path=task.folder,
    )  # fmt: skip
    with learner.no_bar(), learner.no_logging():
        learner.fit(task.epochs)  # at a constant rate, unlike fit_one_cycle


TRAINERS: dict[str, Callable[[Task], None]] = {
    "train_loop": train_loop,
    "lightning": lightning,
    "transformers": transformers,
    "fastai": fastai,
}
