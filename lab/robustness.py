"""How much of its accuracy a network keeps when the pictures are worse than they should be.

Each corruption of `lab.corruptions` at five severities; faces that are in the training split too
are left out, because what was memorised is lost with the first changed pixel. What is measured
goes to results/NAME/robustness/, a file for each data set, split and number of faces.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from expression.files import atomic_write, whole_files
from expression.preprocessing import Preprocess
from lab.corruptions import SEVERITIES, SIDE, corrupt
from lab.data import Faces, subset_indices
from lab.evaluation import load_model, measured_network, open_test, words_for
from lab.provenance import hardware, revision
from lab.results import SPLITS, Results, now

__all__ = ["Robustness", "groups", "measure", "read_all"]

FOLDER = "robustness"
SAMPLES = 1000  # of the bootstrap


@dataclass(frozen=True)
class Robustness:
    """Right answers of one network on one split, clean and corrupted."""

    name: str  # of the network
    sha256: str  # of its checkpoint
    data: str
    fingerprint: str
    split: str
    n: int  # faces measured
    available: int  # faces of the split that are not in train too
    size: int  # of the split
    clean: int  # right answers on the faces as they are
    correct: dict[str, list[int]]  # corruption → right answers at severity 1 to 5
    interval_95: tuple[float, float]  # of the mean relative accuracy, by bootstrap over the faces
    severities: dict[str, list[float]]
    command: str
    revision: str
    hardware: str
    date: str

    @cached_property
    def relative(self) -> dict[str, float]:
        """Corruption → accuracy as a share of the clean accuracy, mean over the severities."""
        return {name: float(np.mean(k)) / self.clean for name, k in self.correct.items()}

    @property
    def mean_relative_accuracy(self) -> float:
        """The mean over all corruptions and severities; 1 is as good as on clean pictures."""
        return float(np.mean(list(self.relative.values())))

    def key(self) -> tuple[Any, ...]:
        """What must be the same for two measurements to be the same one."""
        return (self.sha256, self.fingerprint, self.split, self.n, self.severities)


def measure(
    checkpoint: Path, faces: Faces, out: Path, device: torch.device, limit: int, final: bool
) -> list[Path]:
    """Measure one checkpoint on validation, and with `final` on the test split too.

    `limit` faces of each split, the same for every network; 0: all. Returns the files, which are
    written once: what was measured before is not measured again.
    Raises ValueError for classes that do not fit, where no face is left or none is answered
    rightly, and where a file of that name is of other data or severities.
    """
    model, card, rule = load_model(checkpoint, device)
    faces = faces.with_classes(card["class_names"], str(checkpoint), subset=True)
    kept = Results(out / "results")
    network = measured_network(checkpoint, model, card)
    folder, files = kept.add_network(network), []
    severities = {name: list(amounts) for name, amounts in SEVERITIES.items()}
    for split in SPLITS if final else SPLITS[:1]:
        rows = rows_of(faces, split, limit)
        command = command_of(checkpoint, faces, limit, split == "test")
        wanted = (network.sha256, faces.fingerprint, split, len(rows), severities)
        file = folder / FOLDER / f"{faces.name}-{split}{f'-{limit}' if limit else ''}.json"
        files.append(file)
        if was_measured(file, wanted):
            print(f"{split:10}  {network.name}: measured before, kept", flush=True)
            continue
        if split == "test":
            open_test(kept, network, faces, command, [FOLDER])
        right = right_answers(model, rule, faces, split, rows, device)
        if not right["clean"].any():
            raise ValueError(f"{checkpoint} names no {split} face rightly: nothing to be robust")
        told = Robustness(
            network.name, network.sha256, faces.name, faces.fingerprint, split,
            n=len(rows), available=len(rows_of(faces, split, 0)), size=len(faces.labels(split)),
            clean=int(right["clean"].sum()),
            correct={name: right[name].sum(1).tolist() for name in SEVERITIES},
            interval_95=bootstrap(right), severities=severities, command=command,
            revision=revision(), hardware=hardware(device), date=now(),
        )  # fmt: skip
        with atomic_write(file) as stream:
            stream.write(to_json(told))
        low, high = told.interval_95
        print(f"{split:10}  {told.name}: mean relative accuracy {told.mean_relative_accuracy:.3f} "
              f"({low:.3f}–{high:.3f}), clean {told.clean}/{told.n}", flush=True)  # fmt: skip
    return files


def rows_of(faces: Faces, split: str, limit: int) -> np.ndarray:
    """The rows to measure: of those that are not in train too, `limit` at random, or all."""
    if limit < 0:
        raise ValueError(f"limit is {limit}; it must be 0 (all faces) or more")
    rows = np.flatnonzero(~faces.in_train[split])
    if not len(rows):
        raise ValueError(f"every {split} face of {faces.name} is in train too: nothing to measure")
    return rows[subset_indices(len(rows), limit).numpy()] if limit else rows


@torch.inference_mode()
def right_answers(
    model: torch.nn.Module, rule: Preprocess, faces: Faces, split: str, rows: np.ndarray,
    device: torch.device,
) -> dict[str, np.ndarray]:  # fmt: skip
    """{"clean": bool (n,), corruption: bool (5, n)}: which faces are named as labelled."""
    pictures = faces.decoded(Preprocess(SIDE, "L"))[split].pixels[rows, 0].numpy()
    labels = faces.labels(split)[rows].numpy()

    def right(changed: np.ndarray) -> np.ndarray:
        found = []
        for start in range(0, len(changed), 128):
            batch = rule.batch([Image.fromarray(x) for x in changed[start : start + 128]])
            found.append(model(torch.from_numpy(batch).to(device)).argmax(1).cpu().numpy())
        return np.concatenate(found) == labels

    return {"clean": right(pictures)} | {
        name: np.stack([right(corrupt(pictures, name, 1 + level)) for level in range(5)])
        for name in SEVERITIES
    }


def bootstrap(right: dict[str, np.ndarray]) -> tuple[float, float]:
    """95 % interval of the mean relative accuracy: faces drawn anew, with replacement."""
    n = len(right["clean"])
    share = np.concatenate([right[name] for name in SEVERITIES]).mean(0)  # (n,) over 45 pictures
    drawn = np.random.default_rng(0).integers(0, n, (SAMPLES, n))
    values = share[drawn].sum(1) / right["clean"][drawn].sum(1).clip(1)
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def command_of(checkpoint: Path, faces: Faces, limit: int, final: bool) -> str:
    """The command that measures this again, without folders of this machine."""
    words = [f"python experiments.py robustness checkpoints/{checkpoint.name}", *words_for(faces)]
    words += [f"--limit {limit}"] * bool(limit) + ["--final"] * final
    return " ".join(words)


# --- files ---


def to_json(told: Robustness) -> bytes:
    content = asdict(told) | {"mean_relative_accuracy": told.mean_relative_accuracy}
    return (json.dumps(content, indent=1) + "\n").encode()


def read(file: Path) -> Robustness:
    """One file. Raises ValueError when it is not whole, or its mean is not that of its counts."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        mean = content.pop("mean_relative_accuracy")
        content["interval_95"] = tuple(content["interval_95"])
        told = Robustness(**content)
        stated = abs(told.mean_relative_accuracy - mean) < 1e-9
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is not a measurement of robustness: {error!r}") from error
    if not stated:
        raise ValueError(f"{file} states {mean}, its counts give {told.mean_relative_accuracy}")
    return told


def was_measured(file: Path, wanted: tuple[Any, ...]) -> bool:
    """Whether the file holds what is wanted. Raises ValueError where it holds something else."""
    if not file.exists():
        return False
    if read(file).key() != wanted:
        raise ValueError(
            f"{file} is of other data, faces or severities. Move it away, or give the data another "
            "name (--name) to keep both"
        )
    return True


def read_all(results: Path) -> list[Robustness]:
    """Every measurement below a results folder, the most robust network first."""
    found = [read(file) for file in whole_files(results, f"*/{FOLDER}/*.json")]
    return sorted(found, key=lambda told: -told.mean_relative_accuracy)


def groups(measured: Sequence[Robustness]) -> dict[tuple[str, str, int], list[Robustness]]:
    """Those that may be compared: by data set, split and number of faces. Other data of the same
    name are called NAME-FINGERPRINT, as in results/."""
    first: dict[str, str] = {}  # the fingerprint that a name belongs to
    found: dict[tuple[str, str, int], list[Robustness]] = {}
    for told in measured:
        own = first.setdefault(told.data, told.fingerprint) == told.fingerprint
        data = told.data if own else f"{told.data}-{told.fingerprint[:8]}"
        found.setdefault((data, told.split, told.n), []).append(told)
    return found
