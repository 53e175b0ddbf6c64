"""What is said when training fails: where it was, which good state is kept, and what helps.

Why: after hours of training "CUDA error: out of memory" leaves the most important questions open.
Whatever a batch raises becomes one sentence of three parts, by one rule.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from expression.files import FULL

__all__ = ["TrainingFailed", "advice", "told_failures"]

LONE_PICTURE = "expected more than 1 value per channel"  # what BatchNorm says of it
MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory")


class TrainingFailed(RuntimeError):
    """A run ended before its time; the message says where, what is kept, and what to do."""


@contextmanager
def told_failures(name: str, where: Callable[[], str], state: Path) -> Iterator[None]:
    """Turn what goes wrong in the block into TrainingFailed; `where` says the epoch and batch, and
    `state` is the file of the last whole epoch, if there is one."""
    try:
        yield
    except Exception as error:  # whatever pictures, drivers and disks raise
        reason = " ".join(str(error).split())[:500].rstrip(".") or type(error).__name__
        if not isinstance(error, OSError | ValueError | RuntimeError | ArithmeticError):
            reason = f"{type(error).__name__}: {reason}"
        kept = (
            f"The last whole epoch is kept in {state}: --resume goes on after it"
            if state.exists()
            else "No epoch had ended, so nothing is kept"
        )
        text = f"{name} failed in {where()}: {reason}. {kept}. {advice(error)}".rstrip()
        raise TrainingFailed(text) from error


def advice(error: Exception) -> str:
    """What helps against an error, in a sentence; "" where nothing is known."""
    words = str(error).lower()
    if isinstance(error, OSError) and error.errno in FULL:
        return "Make room on that disk, or choose another one with --out"
    if isinstance(error, FloatingPointError):
        return "A lower --lr, --warmup or --precision float32 helps, in a run without --resume"
    if LONE_PICTURE in words:
        return (
            "A batch of this run holds one picture, the last one for instance, and BatchNorm needs "
            "two: another --batch-size or a larger --size helps, in a run without --resume"
        )
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        known in words for known in MEMORY_WORDS
    ):
        return "A smaller --batch-size or --size takes less memory, in a run without --resume"
    return ""
