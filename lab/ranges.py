"""The range of every number that a run can be given, and the only place that says so.

Why: a number out of its range stops a run after the data were read and an epoch was trained, with
words of torch, or trains to nothing. A new numeric setting needs an entry here; a test asks for it.
"""

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["RANGES", "out_of_range"]

LARGEST_SIDE = 1024  # pixels, as `expression.card` reads them
COUNT = (0, 10_000_000)  # of pictures; 0: all
EPOCHS = (0, 100_000)

# (lowest, highest) of each setting, and of each number in one that holds several
RANGES: dict[str, tuple[float, float]] = {
    # pictures
    "size": (1, LARGEST_SIDE), "channels": (1, 3), "mean": (-100, 100), "std": (1e-6, 100),
    "progressive_sizes": (1, LARGEST_SIDE), "limit": COUNT, "limit_eval": COUNT,
    # augmentation
    "flip": (0, 1), "degrees": (0, 180), "shift": (0, 1), "scale": (0, 1), "brightness": (0, 1),
    "contrast": (0, 1), "erase": (0, 1), "darkness": (0, 1), "blur": (0, 1), "noise": (0, 1),
    "side": (0, LARGEST_SIDE),
    "final_unaugmented_epochs": EPOCHS,
    # learning
    "epochs": EPOCHS, "batch_size": (1, 100_000), "shuffle_buffer": COUNT,
    "lr": (0, 1000), "weight_decay": (0, 1000),
    "label_smoothing": (0, 1), "weighted_sampling": (0, 1), "focal_gamma": (0, 100),
    "further_weights": (1e-6, 1_000_000), "shares": (1e-6, 1_000_000), "further_cap": COUNT,
    "prior_correction": (0, 100),
    "mixup": (0, 1000), "average": (0, 1),
    # schedule and stopping
    "warmup": EPOCHS, "step_size": (1, 100_000), "gamma": (0, 1000), "factor": (0, 0.9999),
    "patience": EPOCHS, "stop_patience": EPOCHS,
    # start and teachers
    "head_epochs": EPOCHS, "head_lr": (0, 1000), "teacher_weight": (0, 1),
    # commands
    "seed": (0, 2**32 - 1), "seeds": (1, 1000),
}  # fmt: skip


def out_of_range(values: Mapping[str, Any]) -> str:
    """A sentence on the first of these settings with a number out of its range; empty: none."""
    for name, (low, high) in RANGES.items():
        given = values.get(name, low)
        several = isinstance(given, list | tuple)
        for value in given if several else (given,):
            # Written so that NaN is refused; a flag or a text is no number, whoever gives it
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or not low <= value <= high:
                has = "has" if several else "is"
                return f"--{name.replace('_', '-')} {has} {value}; it must be {words(low, high)}"
    return ""


def words(low: float, high: float) -> str:
    return f"between {low:,} and {high:,}"
