"""How many epochs of each system fit into the same minutes: timed, and written down once.

A plan is made once for a machine and serves all seeds. Otherwise a machine that is slower for an
hour would train one seed for fewer epochs than another, and the seeds could not be compared. On a
CPU the clock counts the processor time of this program alone, so that other programs, which may
slow one system's steps and not another's, change the plan little.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice, repeat
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import nn

from benchmarks import harness, subjects

if TYPE_CHECKING:
    from hf_collate import Batches
    from lab.data import Faces
    from lab.recipe import Recipe

__all__ = ["Planned", "Planner", "reasons_to_leave_out"]

WARM, TIMED = 2, 7  # steps that do not count, and those whose median does
SVM_FACES = (1000, 2000, 4000)  # how many faces the SVM is timed with
QUICK = {"limit": 300, "limit_eval": 200}
MOST_EPOCHS = 10_000


def reasons_to_leave_out(recipes: Mapping[str, "Recipe"]) -> dict[str, str]:
    """{recipe: why it has no part}: those that use more than the labels of the data."""
    found = {}
    for name, recipe in recipes.items():
        known = (
            ("goes on from a trained network", recipe.init_from or recipe.fine_tune),
            ("starts from pretrained weights", recipe.weights),
            ("learns from teachers", recipe.teacher),
            ("learns from the crowd's votes", recipe.heads != ("label",)),
            ("learns from further data sets", recipe.further_cap or recipe.further_weights),
        )
        if reasons := [reason for reason, applies in known if applies]:
            found[name] = ", ".join(reasons)
    return found


@dataclass(frozen=True)
class Planned:
    """What a system's runs do."""

    recipe: "Recipe"
    minutes: float  # that the training should take, from timed steps
    epoch_seconds: Mapping[str, float]  # {side of the training pictures, or "validation": seconds}


# --- arithmetic ---


def cycle(recipe: "Recipe", epochs: int) -> "Recipe":
    """The recipe with this many epochs: one cycle of the rate, nothing chosen, in float32.

    Its last epochs without augmentation keep their share of all epochs.
    """
    unaugmented = round(recipe.final_unaugmented_epochs * epochs / max(1, recipe.epochs))
    return replace(
        recipe, epochs=epochs, final_unaugmented_epochs=unaugmented, schedule="onecycle", warmup=0,
        stop="never", keep="last", precision="float32",
    )  # fmt: skip


def seconds_of_training(recipe: "Recipe", epoch_seconds: Mapping[str, float]) -> float:
    """Seconds of all epochs: each has pictures of its own side, and a pass over validation."""
    sides = (recipe.picture_size(epoch) or recipe.size for epoch in range(recipe.epochs))
    return sum(epoch_seconds[str(side)] + epoch_seconds["validation"] for side in sides)


def fit_epochs(recipe: "Recipe", epoch_seconds: Mapping[str, float], seconds: float) -> "Recipe":
    """The recipe with as many epochs as fit into `seconds`, at least 1."""
    chosen = cycle(recipe, 1)
    for epochs in range(2, MOST_EPOCHS):
        longer = cycle(recipe, epochs)
        if seconds_of_training(longer, epoch_seconds) > seconds:
            break
        chosen = longer
    return chosen


def fit_faces(timed: Mapping[int, float], most: int, seconds: float) -> tuple[int, float]:
    """(how many faces an SVM can be fitted to in `seconds`, the seconds expected for them).

    `timed` is {faces: seconds}. Features take time that grows with the faces, the SVM itself with
    their square, and the features of validation always the same: constant + a·n + b·n², none of
    them negative. At most `most` faces, at least the fewest that were timed.
    """
    counts = np.array(sorted(timed), float)
    factors, _ = nnls(powers(counts), np.array([timed[int(count)] for count in counts]))
    candidates = np.arange(min(timed), max(most, min(timed)) + 1)
    expected = powers(candidates.astype(float)) @ factors
    last = max(0, int((expected <= seconds).sum()) - 1)  # the expected time only grows
    return int(candidates[last]), float(expected[last])


def powers(counts: np.ndarray) -> np.ndarray:
    """Columns 1, n, n² for each count (N,) → (N, 3)."""
    return np.stack([np.ones_like(counts), counts, counts**2], 1)


# --- timing ---


def time_epochs(recipe: "Recipe", faces: "Faces", device: torch.device) -> dict[str, float]:
    """Seconds of an epoch for each side of the training pictures, and of a pass over validation.

    Median of a few steps, in which the loader's work counts, times the number of batches.
    """
    torch.manual_seed(0)
    batches, names = faces.batches(recipe, 0, device), faces.class_names
    model = subjects.build(
        recipe.system, num_classes=len(names), in_channels=recipe.channels, **recipe.system_args
    ).to(device, memory_format=torch.channels_last)
    loss_fn = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    optimizer = subjects.make_optimizer(model, recipe)
    loader, found = batches["train"], {}
    for side in sorted({recipe.size, *recipe.progressive_sizes}):
        if recipe.augment is not None:
            resampled = side if recipe.progressive_sizes else 0
            loader.augment = replace(recipe.augment, side=resampled)
        found[str(side)] = pass_seconds(
            loader,
            lambda batch: subjects.train_step(model, [batch], loss_fn, optimizer, device),
            device,
        )
    found["validation"] = pass_seconds(
        batches["validation"],
        lambda batch: subjects.test_step(model, [batch], nn.CrossEntropyLoss(), device),
        device,
    )
    return found


def pass_seconds(loader: "Batches", step: Any, device: torch.device) -> float:
    """Seconds of a pass over the loader, from the median of a few batches and steps."""
    batches, times = chain.from_iterable(repeat(loader)), []
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    for _ in range(WARM + TIMED):
        start = clock()
        for batch in islice(batches, 1):
            step(batch)
        harness.synchronize(device)
        times.append(clock() - start)
    return median(times[WARM:]) * len(loader)


def time_svm(recipe: "Recipe", faces: "Faces", most: int) -> dict[int, float]:
    """{faces: seconds of processor time} of fitting the SVM to some of them, data included.

    The first fit also loads libraries; it does not count.
    """
    counts, found = [n for n in SVM_FACES if n < most] or [most], {}
    for count in (counts[0], *counts):
        run = subjects.Run(
            "timed", replace(recipe, limit=count), faces, 0, torch.device("cpu"), Path(), Path(), ""
        )
        start = time.process_time()
        subjects.fit_svm(run)
        found[count] = time.process_time() - start
    return found


# --- the plan ---


@dataclass(frozen=True)
class Planner:
    """Plans of all systems in one JSON file, for one machine, one data set and one budget."""

    path: Path
    faces: "Faces"
    device: torch.device
    minutes: float
    quick: bool = False

    def conditions(self) -> dict[str, Any]:
        """What the plans of a file have in common."""
        told = harness.record("equal_budget", [], self.device)
        torch_version = told["versions"]["torch"]
        return {"minutes": self.minutes, "machine": told["machine"], "torch": torch_version,
                "fingerprint": self.faces.fingerprint, "quick": self.quick}  # fmt: skip

    def read(self) -> dict[str, Any]:
        """The file's content. Raises ValueError where it was made under other conditions."""
        now = self.conditions()
        known = harness.read_json(self.path)
        if known is None:
            return {**now, "systems": {}}
        if other := [name for name in now if known[name] != now[name]]:
            raise ValueError(
                f"{self.path} is of another {', '.join(other)}; give another --runs, or the same "
                "options on the same machine"
            )
        return known

    def plan(self, name: str) -> Planned:
        """The plan of a system: read where it is written down, else timed and written down."""
        content, recipe = self.read(), subjects.RECIPES[name]
        known = content["systems"].get(name)
        if known is None:
            planned = self.measure(recipe)
            known = {"of": recipe.as_dict(), **asdict(planned), "recipe": planned.recipe.as_dict()}
            content = self.read()  # again: another program may have planned its own meanwhile
            content["systems"][name] = known
            harness.write_json(self.path, content)
        if subjects.Recipe.from_dict(known["of"]) != recipe:
            raise ValueError(f"{self.path} plans another recipe {name}; give another --runs")
        return Planned(
            subjects.Recipe.from_dict(known["recipe"]), known["minutes"], known["epoch_seconds"]
        )

    def measure(self, recipe: "Recipe") -> Planned:
        """Time some steps and see what fits."""
        recipe, seconds = replace(recipe, **(QUICK if self.quick else {})), 60 * self.minutes
        if not recipe.epochs:  # no passes over the faces: the number of faces is what can change
            count = len(self.faces.labels("train"))
            most = min(count, recipe.limit or count)
            faces, expected = fit_faces(time_svm(recipe, self.faces, most), most, seconds)
            limit = 0 if faces == count else faces
            return Planned(replace(recipe, limit=limit, precision="float32"), expected / 60, {})
        epoch_seconds = time_epochs(recipe, self.faces, self.device)
        chosen = fit_epochs(recipe, epoch_seconds, seconds)
        return Planned(chosen, seconds_of_training(chosen, epoch_seconds) / 60, epoch_seconds)
