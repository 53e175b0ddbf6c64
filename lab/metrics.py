"""Figures of a classifier, counted over images: accuracy with its interval, per class, confusion.

Why: with 45 validation faces one face is 2.2 points; a share without k/n and an
interval says more than is known, and so does a gain without its error over the seeds.
Everything about one split follows from one confusion matrix.
Source: Wilson's interval (Wilson 1927); definitions as in scikit-learn.
Needs only torch; copy freely (MIT, see LICENSE).
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["VIEWS", "Evaluation", "collect", "evaluate", "paired_gain", "percent", "wilson"]

VIEWS = {"plain": 1, "flip": 2, "shift": 18}  # how a picture may be looked at, and how often


def wilson(k: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Interval of a share k/n in [0, 1], 95 % by default; sound for small n too.

    Raises ValueError unless 0 ≤ k ≤ n and n ≥ 1.
    """
    if not (n >= 1 and 0 <= k <= n):
        raise ValueError(f"k = {k} of n = {n} is no share")
    share, slack = k / n, z * z / n
    centre = (share + slack / 2) / (1 + slack)
    half = z / (1 + slack) * math.sqrt(share * (1 - share) / n + slack / (4 * n))
    return max(0.0, centre - half), min(1.0, centre + half)


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

    def per_class(self) -> dict[str, dict[str, float]]:
        """precision, recall, f1 in [0, 1] and support of each class; 0 where undefined."""
        figures = {}
        for i, name in enumerate(self.class_names):
            hit = int(self.confusion[i, i])
            support, named = int(self.confusion[i].sum()), int(self.confusion[:, i].sum())
            figures[name] = {
                "precision": hit / named if named else 0.0,
                "recall": hit / support if support else 0.0,
                "f1": 2 * hit / (support + named) if support + named else 0.0,
                "support": support,
            }
        return figures

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

    @classmethod
    def from_dict(cls, told: Mapping[str, Any], class_names: Sequence[str]) -> "Evaluation":
        """What `as_dict` gave, read again."""
        return cls(torch.tensor(told["confusion"]), tuple(class_names), told["loss"])

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
    step = max(1, round(images.shape[-1] / 24)) if views == VIEWS["shift"] else 0
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
