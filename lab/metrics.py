"""Figures of a classifier, counted over images: accuracy with its interval, per class, confusion.

Why: with 45 validation faces one face is 2.2 points; a share without k/n and an
interval says more than is known, and so does a gain without its error over the seeds.
Everything about one split follows from one confusion matrix.
Source: written for this project; Wilson's interval by SciPy, figures per class by scikit-learn.
Needs torch, SciPy and scikit-learn; copy freely (MIT, see LICENSE).
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import torch
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_fscore_support
from torch import Tensor, nn

__all__ = [
    "VIEWS",
    "VIEW_WORDS",
    "Evaluation",
    "collect",
    "evaluate",
    "paired_gain",
    "percent",
    "wilson",
]

# How a face may be looked at: name → number of views whose answers are averaged. The names
# stand in file names and tables; the words explain them at first use.
VIEWS = {"plain": 1, "flip": 2, "tta18": 18}
VIEW_WORDS = {
    "plain": "one view",
    "flip": "with horizontal flip",
    "tta18": "test-time augmentation, 18 views (flip × 9 shifts)",
}


def wilson(k: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share k/n, in [0, 1]; sound for small n too.

    Raises ValueError unless 0 ≤ k ≤ n and n ≥ 1.
    """
    if not (n >= 1 and 0 <= k <= n):
        raise ValueError(f"k = {k} of n = {n} is no share")
    interval = binomtest(k, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def percent(k: int, n: int) -> str:
    """'31/45 = 68.9 % (54.3–80.5)': count, share and its 95 % interval."""
    low, high = wilson(k, n)
    return f"{k}/{n} = {100 * k / n:.1f} % ({100 * low:.1f}–{100 * high:.1f})"


def paired_gain(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """(mean gain, its standard error) of runs paired by seed: after[i] beside before[i].

    Raises ValueError when they do not pair, or with fewer than two pairs.
    """
    gains = [b - a for a, b in zip(before, after, strict=True)]
    return mean(gains), stdev(gains) / math.sqrt(len(gains))


@dataclass(frozen=True)
class Evaluation:
    """A confusion matrix (rows: labels, columns: preds; int64) and what follows from it."""

    confusion: Tensor
    class_names: tuple[str, ...]
    loss: float  # nats per image

    @property
    def n(self) -> int:
        return int(self.confusion.sum())

    @property
    def k(self) -> int:
        return int(self.confusion.trace())

    @property
    def accuracy(self) -> float:
        return self.k / self.n

    @property
    def majority(self) -> float:
        """Accuracy of always naming the most frequent class of this split."""
        return int(self.confusion.sum(dim=1).max()) / self.n

    def pairs(self) -> tuple[list[int], list[int]]:
        """(labels, preds) with these counts, as scikit-learn wants them."""
        rows, columns = self.confusion.nonzero(as_tuple=True)
        counts = self.confusion[rows, columns]
        return rows.repeat_interleave(counts).tolist(), columns.repeat_interleave(counts).tolist()

    def per_class(self) -> dict[str, dict[str, float]]:
        """precision, recall, f1 in [0, 1] and support of each class; 0 where undefined."""
        columns = precision_recall_fscore_support(
            *self.pairs(), labels=range(len(self.class_names)), zero_division=0
        )
        keys = ("precision", "recall", "f1", "support")
        rows = zip(*(column.tolist() for column in columns), strict=True)
        each = (dict(zip(keys, row, strict=True)) for row in rows)
        return dict(zip(self.class_names, each, strict=True))

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the classes that have images, each counting the same."""
        return mean(f["f1"] for f in self.per_class().values() if f["support"])

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes without a single image."""
        return tuple(name for name, f in self.per_class().items() if not f["support"])

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "k": self.k,
            "n": self.n,
            "accuracy": self.accuracy,
            "loss": self.loss,
            "interval_95": wilson(self.k, self.n),
            "majority": self.majority,
            "macro_f1": self.macro_f1,
            "per_class": self.per_class(),
            "confusion": self.confusion.tolist(),
        }

    def for_card(self) -> dict[str, Any]:
        """What a checkpoint's card says of a split; shares in [0, 1]."""
        shares = {"majority": round(self.majority, 4), "macro_f1": round(self.macro_f1, 4)}
        return {"k": self.k, "n": self.n, **shares}

    def __str__(self) -> str:
        return percent(self.k, self.n)


def evaluate(logits: Tensor, labels: Tensor, class_names: Sequence[str]) -> Evaluation:
    """Logits (N, num_classes) and labels (N,) int64 → Evaluation.

    Raises ValueError on no images, or shapes that do not fit the class names.
    """
    count = len(class_names)
    if not len(labels) or logits.shape != (len(labels), count):
        raise ValueError(
            f"logits {tuple(logits.shape)}, labels {tuple(labels.shape)} "
            f"and {count} class names do not fit together"
        )
    cells = torch.bincount(labels * count + logits.argmax(dim=1), minlength=count * count)
    loss = nn.functional.cross_entropy(logits.float(), labels).item()
    return Evaluation(cells.view(count, count), tuple(class_names), loss)


@torch.inference_mode()
def collect(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    device: torch.device | str = "cpu",
    *,
    views: int = 1,
) -> tuple[Tensor, Tensor]:
    """Logits (N, num_classes) and labels (N,) of a whole split, on the CPU.

    With more `views` of a picture (see `seen`), the mean of their log-probabilities.
    """
    model.to(device).eval()
    logits, labels = [], []
    for images, batch_labels in loader:
        images = images.to(device)
        if views == 1:
            answer = model(images)
        else:
            answer = sum(model(view).log_softmax(1) for view in seen(images, views)) / views
        logits.append(answer.float().cpu())
        labels.append(batch_labels.cpu())
    return torch.cat(logits), torch.cat(labels)


def seen(images: Tensor, views: int) -> Iterator[Tensor]:
    """Images (N, C, H, W) as they are (1), with their mirror images (2), or both of these also
    moved by a 24th of the side to the eight neighbouring places, edges repeated (18).

    Raises ValueError on any other number.
    """
    if views not in VIEWS.values():
        raise ValueError(f"views is {views}; it must be one of {sorted(VIEWS.values())}")
    step = max(1, round(images.shape[-1] / 24)) if views == VIEWS["tta18"] else 0
    padded = nn.functional.pad(images, (step,) * 4, mode="replicate") if step else images
    height, width = images.shape[-2:]
    for y, x in itertools.product(sorted({0, step, 2 * step}), repeat=2):
        view = padded[..., y : y + height, x : x + width]
        yield view
        if views > 1:
            yield view.flip(-1)


if __name__ == "__main__":
    torch.manual_seed(0)
    truth = torch.randint(0, 3, (45,))
    guess = torch.randn(45, 3) + 1.5 * nn.functional.one_hot(truth, 3)
    result = evaluate(guess, truth, ("happy", "neutral", "sad"))
    print("accuracy", result, f"macro F1 {result.macro_f1:.3f}  majority {result.majority:.3f}")
    for name, figures in result.per_class().items():
        print(f"{name:8}", {key: round(value, 3) for key, value in figures.items()})
