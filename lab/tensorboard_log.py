"""What TensorBoard shows of a run: curves, the graph, sample pictures, the confusion figure."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from expression.preprocessing import Preprocess
from hf_collate import Batches
from lab import plots
from lab.heads import hard_labels
from train_loop import History

__all__ = ["TensorBoardLog"]


class TensorBoardLog:
    """Writes one run's events to a folder; look with `tensorboard --logdir runs`.

    One writer, opened at the first event; used in a `with` block, it is closed at the end and
    when the run is interrupted. Each epoch is on disk when `epoch` returns.
    """

    def __init__(self, folder: Path, class_names: Sequence[str], rule: Preprocess) -> None:
        self.folder, self.class_names, self.rule = folder, class_names, rule
        self.opened: SummaryWriter | None = None

    def __enter__(self) -> "TensorBoardLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self.opened is not None:
            self.opened.close()

    def writer(self, purge_step: int | None = None) -> SummaryWriter:
        """The run's writer; `purge_step` hides what earlier files hold from that step on."""
        if self.opened is None:
            self.opened = SummaryWriter(str(self.folder), purge_step=purge_step)
        return self.opened

    def start(self, model: nn.Module, loader: Batches) -> None:
        """The first training pictures as the network sees them, and its graph."""
        images, labels = next(iter(loader))
        loader.epoch -= 1  # a look, not a pass
        labels = hard_labels(labels)
        pictures = [plots.as_picture(x.cpu(), self.rule.mean, self.rule.std) for x in images[:16]]
        names = [self.class_names[k] for k in labels[:16]]
        self.writer().add_figure(
            "pictures", plots.faces(pictures, names, "Training faces, as the network sees them")
        )
        mode, state = model.training, torch.get_rng_state()
        model.eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces the end of the tracer it uses
            self.writer().add_graph(model, images[:2])
        model.train(mode)
        torch.set_rng_state(state)

    def resume(self, history: History) -> None:
        """The curves so far, written again: the last run may have ended before its last event."""
        self.writer(purge_step=1)
        for epoch in range(len(history["lr"])):
            self.epoch(epoch, history)

    def epoch(self, epoch: int, history: History) -> None:
        """Curves: loss and accuracy of both splits together, then everything else."""
        writer = self.writer()
        for figure in ("loss", "accuracy"):
            for split in ("train", "val"):
                writer.add_scalar(
                    f"{figure}/{split}", history[f"{split}_{figure}"][epoch], epoch + 1
                )
        for name in ("lr", "seconds"):
            writer.add_scalar(name, history[name][epoch], epoch + 1)
        writer.flush()

    def end(self, figures: dict[str, Any]) -> None:
        """The figures of the evaluation, by name."""
        for name, figure in figures.items():
            self.writer().add_figure(name, figure, close=False)
        plt.close("all")
