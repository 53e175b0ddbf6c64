"""The number format of training steps: float32, or a short one where a step is faster in it.

Why: a processor made for bfloat16 trains two to three times as fast in it, others are thirty times
slower, and between them the network and the batch decide. So `precision=auto` times a few steps.
"""

import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from hf_collate import Batches
from lab.recipe import Recipe
from train_loop import train_step

__all__ = ["fast_precision", "faster_precision", "precision_name", "precision_of"]

FEW = 4  # pictures of the first look where the hardware is not made for the short format
MUCH_SLOWER = 2.0  # times as long in that look: no need to measure more
COLD = 20.0  # times as long in its very first step, which also prepares the operations
ROUNDS, SECONDS = 5, 2.0  # of measuring at most; two rounds at least
MARGIN = 1.25  # times faster: the short format is chosen only then

# Seconds that one training step takes in a format, with the whole batch (True) or FEW pictures.
StepSeconds = Callable[[torch.dtype, bool], float]


def fast_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor or GPU is made for it, float16 on an older GPU."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if device.type == "cpu" and fast else torch.float32


def precision_name(precision: torch.dtype) -> str:
    """'bfloat16' of torch.bfloat16."""
    return str(precision).removeprefix("torch.")


def precision_of(
    recipe: Recipe, resumed: dict[str, Any], model: nn.Module, loss_fn: nn.Module, loader: Batches
) -> torch.dtype:
    """The format of a run: the recipe's; for auto the one that `resumed`, the values of the run's
    state, has kept, or else the faster one of this network on the first batch of `loader`.

    Model, optimizer and random numbers stay as they are; `loader.epoch` counts one on.
    """
    device = torch.device(loader.device)
    if recipe.precision != "auto":
        return getattr(torch, recipe.precision)
    if "precision" in resumed:
        return getattr(torch, resumed["precision"])
    short = fast_precision(device)
    if resumed or device.type not in ("cpu", "cuda"):  # a state from before steps were timed
        return short
    seconds = step_timer(model, loss_fn, loader, device)
    expected = short != torch.float32
    chosen, told = faster_precision(seconds, short if expected else torch.bfloat16, expected)
    print(f"precision: {told}", flush=True)
    return chosen


def faster_precision(
    seconds: StepSeconds, short: torch.dtype, expected: bool
) -> tuple[torch.dtype, str]:
    """(float32 or `short`, a sentence with what was measured).

    The formats take turns, and the fastest step of each counts. Where the short one is not
    `expected` to be fast, one or two steps with a few pictures come first, so that a format
    thirty times slower costs a second and not a minute.
    """
    single, name = torch.float32, precision_name(short)
    if not expected:
        usual = min(seconds(single, False) for _ in range(2))
        slow = seconds(short, False) > COLD * usual or seconds(short, False) > MUCH_SLOWER * usual
        if slow:
            return single, f"float32; {name} takes more than {MUCH_SLOWER:g} times as long here"
    times: dict[torch.dtype, list[float]] = {single: [], short: []}
    for number in range(ROUNDS):
        for precision, found in times.items():
            found.append(seconds(precision, True))
        if number and sum(map(sum, times.values())) > SECONDS:
            break
    long, quick = min(times[single]), min(times[short])
    chosen = short if long > MARGIN * quick else single
    told = f"a step takes {1000 * quick:.3g} ms in {name}, {1000 * long:.3g} ms in float32"
    return chosen, f"{precision_name(chosen)}; {told}"


def step_timer(
    model: nn.Module, loss_fn: nn.Module, loader: Batches, device: torch.device
) -> StepSeconds:
    """Times training steps of a copy of `model` on the first batch, at a learning rate of 0."""
    images, labels = next(iter(loader))
    trial = deepcopy(model)
    optimizer = torch.optim.SGD(trial.parameters(), 0.0, momentum=0.9)

    def seconds(precision: torch.dtype, whole: bool) -> float:
        count = len(images) if whole else FEW
        scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            start = time.perf_counter()
            train_step(trial, [(images[:count], labels[:count])], loss_fn, optimizer, device,
                       precision=precision, scaler=scaler)  # fmt: skip
            return time.perf_counter() - start  # the step's figures are read: a GPU is done

    return seconds
