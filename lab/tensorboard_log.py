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
from train_loop import History

__all__ = ["Board"]


class Board:
    """Writes one run's events to a folder; look with `tensorboard --logdir runs`."""

    def __init__(self, folder: Path, class_names: Sequence[str], rule: Preprocess) -> None:
        self.folder, self.class_names, self.rule = folder, class_names, rule

    def start(self, model: nn.Module, loader: Batches) -> None:
        """The first training pictures as the network sees them, and its graph."""
        images, labels = next(iter(loader))
        loader.epoch -= 1  # a look, not a pass
        labels = labels[:, 0] if labels.ndim == 3 else labels  # several heads: the first one's
        labels = labels.argmax(1) if labels.ndim == 2 else labels
        pictures = [plots.as_picture(x.cpu(), self.rule.mean, self.rule.std) for x in images[:16]]
        names = [self.class_names[k] for k in labels[:16]]
        with SummaryWriter(str(self.folder)) as writer:
            writer.add_figure(
                "pictures", plots.faces(pictures, names, "Training faces, as the network sees them")
            )
            mode, state = model.training, torch.get_rng_state()
            model.eval()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch announces the end of the tracer it uses
                writer.add_graph(model, images[:2])
            model.train(mode)
            torch.set_rng_state(state)

    def epoch(self, epoch: int, history: History) -> None:
        """Curves: loss and accuracy of both splits together, then everything else."""
        with SummaryWriter(str(self.folder)) as writer:
            for figure in ("loss", "accuracy"):
                pair = {s: history[f"{s}_{figure}"][-1] for s in ("train", "val")}
                for split, value in pair.items():
                    writer.add_scalar(f"{figure}/{split}", value, epoch + 1)
            for name in ("lr", "seconds"):
                writer.add_scalar(name, history[name][-1], epoch + 1)

    def end(self, figures: dict[str, Any]) -> None:
        """The figures of the evaluation, by name."""
        with SummaryWriter(str(self.folder)) as writer:
            for name, figure in figures.items():
                writer.add_figure(name, figure, close=False)
        plt.close("all")
