"""The only reader and writer of results/: what was measured, of which network, on which faces.

A result has a key: the checkpoint's SHA-256, the data's fingerprint, the split and the views. It
is written once. Measuring another data set, or another checkpoint of the same name, writes other
files and leaves the first ones as they are.

    results/CHECKPOINT/checkpoint.json             which network: SHA-256, card, parameters
    results/CHECKPOINT/DATA-SPLIT-VIEWS.json       one result: k, n, confusion, how it was made
    results/CHECKPOINT/DATA-SPLIT-VIEWS.npz        its probabilities, face by face
    results/data_sets.json                         facts about the data sets, by fingerprint
    results/test_openings.jsonl                    every time that a test split was measured
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from expression.files import atomic_path, atomic_write, whole_files
from lab.data_notes import DataNotes
from lab.metrics import Evaluation

__all__ = [
    "SPLITS",
    "FaceProbabilities",
    "Key",
    "MeasuredNetwork",
    "Opening",
    "Result",
    "Results",
    "file_sha256",
    "now",
]

SPLITS = ("validation", "test")
ABOUT = "checkpoint.json"
NOTES = "data_sets.json"
LOG = "test_openings.jsonl"
PARTS = ("probabilities", "labels", "rows", "in_train")


class Key(NamedTuple):
    """What makes a result that one and no other."""

    sha256: str  # of the checkpoint; "" for a file that was not kept
    fingerprint: str  # of the data
    split: str
    views: str  # a name of lab.metrics.VIEWS


@dataclass(frozen=True)
class MeasuredNetwork:
    """A checkpoint that was measured, or several whose probabilities were averaged."""

    name: str
    sha256: str  # "" where the file was not kept
    card: dict[str, Any]
    parameters: int
    members: dict[str, str] = field(default_factory=dict)  # of an ensemble: name → SHA-256


@dataclass(frozen=True, eq=False)
class FaceProbabilities:
    """What a network answered, face by face, in the order of the split.

    Without the temperature of its card, see `lab.evaluation.store_result`.
    """

    probabilities: np.ndarray  # (n, num_classes), float16 where that keeps every answer
    labels: np.ndarray  # (n,) uint8
    rows: np.ndarray  # (n,) int32, places in the split
    in_train: np.ndarray  # (n,) bool: the same picture is in the training split too

    @classmethod
    def of(cls, probs: np.ndarray, labels: Any, rows: Any, in_train: Any) -> "FaceProbabilities":
        """From probabilities (n, num_classes) float32; stored in half precision where that
        leaves every face its answer."""
        half = probs.astype(np.float16)
        kept = half if (half.argmax(1) == probs.argmax(1)).all() else probs.astype(np.float32)
        return cls(kept, np.asarray(labels, np.uint8), np.asarray(rows, np.int32),
                   np.asarray(in_train, bool))  # fmt: skip

    def confusion(self, chosen: np.ndarray | slice = slice(None)) -> torch.Tensor:
        """Counts (num_classes, num_classes) int64 of the chosen faces; rows are labels."""
        count = self.probabilities.shape[1]
        cells = self.labels[chosen].astype(np.int64) * count
        cells = cells + self.probabilities[chosen].argmax(1)
        return torch.from_numpy(np.bincount(cells, minlength=count**2)).view(count, count)

    def loss(self, chosen: np.ndarray) -> float:
        """Mean loss of the chosen faces, in nats."""
        told = self.probabilities[chosen].astype(np.float64)
        told = told[np.arange(len(told)), self.labels[chosen]]
        return float(-np.log(told.clip(1e-7)).mean())


@dataclass(frozen=True, eq=False)
class Result:
    """One measurement. `path` is where it was read from, without which it has no `answers`."""

    key: Key
    data: str  # name of the data set
    evaluation: Evaluation
    command: str
    revision: str
    hardware: str
    date: str
    crowd: dict[str, Any] | None = None  # how the answers agree with the crowd's votes
    path: Path | None = None

    @cached_property
    def answers(self) -> FaceProbabilities | None:
        """Probabilities face by face; None for a result that was kept without them.

        Raises ValueError when they do not give the confusion that the result states.
        """
        file = self.path.with_suffix(".npz") if self.path else None
        if file is None or not file.exists():
            return None
        with np.load(file, allow_pickle=False) as stored:
            answers = FaceProbabilities(*(stored[part] for part in PARTS))
        if not torch.equal(answers.confusion(), self.evaluation.confusion):
            raise ValueError(f"{file} does not give the confusion that {self.path} states")
        return answers

    @cached_property
    def unseen(self) -> Evaluation | None:
        """Figures on the faces that are not in train too; None where that is not known."""
        if (answers := self.answers) is None or answers.in_train.all():
            return None
        chosen = ~answers.in_train
        names = self.evaluation.class_names
        return Evaluation(answers.confusion(chosen), names, answers.loss(chosen))

    def as_dict(self, network: MeasuredNetwork) -> dict[str, Any]:
        """What the JSON file holds."""
        told = self.evaluation
        crowd = {"crowd": self.crowd} if self.crowd else {}
        return {
            "checkpoint": {"name": network.name, "sha256": network.sha256},
            "data": {"name": self.data, "fingerprint": self.key.fingerprint},
            "split": self.key.split,
            "views": self.key.views,
            "k": told.k,
            "n": told.n,
            "loss": told.loss if math.isfinite(told.loss) else None,  # people give no probabilities
            "class_names": list(told.class_names),
            "confusion": told.confusion.tolist(),
            **crowd,
            "command": self.command,
            "revision": self.revision,
            "hardware": self.hardware,
            "date": self.date,
        }


@dataclass(frozen=True)
class Opening:
    """One time that a test split was measured."""

    date: str
    command: str
    checkpoint: str
    sha256: str
    data: str
    fingerprint: str
    views: Sequence[str]
    note: str = ""  # such as: entered afterwards


def now() -> str:
    """The time in UTC, to the second: 2026-01-31T12:00:00+00:00."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def file_sha256(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


class Results:
    """The results in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    # --- writing ---

    def folder_of(self, name: str, digest: str) -> Path:
        """The folder of a checkpoint: NAME, or NAME-SHA256 where NAME is of other bytes."""
        for folder in (self.folder / name, self.folder / f"{name}-{digest[:12]}"):
            about = folder / ABOUT
            if not about.exists() or read_json(about)["sha256"] == digest:
                return folder
        raise ValueError(f"{folder} is of another checkpoint than {digest}")

    def add_network(self, network: MeasuredNetwork) -> Path:
        """Write down which network is measured, once; returns its folder."""
        folder = self.folder_of(network.name, network.sha256)
        if not (folder / ABOUT).exists():
            write(folder / ABOUT, to_json(asdict(network)))
        return folder

    def add(
        self, network: MeasuredNetwork, result: Result, answers: FaceProbabilities | None = None
    ) -> Result:
        """Write a result, once. Where its key was measured before, that one stays; it gains
        `answers` and the agreement with a crowd if it had none and the new ones agree with it.
        Returns what the folder holds now.
        """
        folder = self.add_network(network)
        path = self.path_of(folder, result)
        if path.exists():
            known = self.read(path)
            same = torch.equal(known.evaluation.confusion, result.evaluation.confusion)
            if answers is not None and same and not path.with_suffix(".npz").exists():
                write_probabilities(path.with_suffix(".npz"), answers)
            if result.crowd and same and not known.crowd:
                write(path, to_json(replace(known, crowd=result.crowd).as_dict(network)))
            return self.read(path)
        if answers is not None:
            write_probabilities(path.with_suffix(".npz"), answers)
        write(path, to_json(result.as_dict(network)))
        return self.read(path)

    def path_of(self, folder: Path, result: Result) -> Path:
        """The file of a result: DATA-SPLIT-VIEWS.json, or with the fingerprint where another
        data set of that name was measured first."""
        data, (_, fingerprint, split, views) = result.data, result.key
        for name in (data, f"{data}-{fingerprint[:8]}"):
            path = folder / f"{name}-{split}-{views}.json"
            if not path.exists() or self.read(path).key == result.key:
                return path
        raise ValueError(f"{path} is of other data than {fingerprint}")

    def add_notes(self, notes: DataNotes) -> DataNotes:
        """Write down facts about a data set; those known of it stay. Returns all of them."""
        known = self.data_notes()
        joined = known[notes.fingerprint].joined(notes) if notes.fingerprint in known else notes
        known[notes.fingerprint] = joined
        write(self.folder / NOTES, to_json({key: asdict(told) for key, told in known.items()}))
        return joined

    def log_opening(self, opening: Opening) -> None:
        """Add one line to test_openings.jsonl, before the test split is looked at."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(opening)) + "\n")

    # --- reading ---

    def read(self, path: Path) -> Result:
        """One result file. Raises ValueError when it is not whole."""
        told = read_json(path)
        try:
            key = Key(told["checkpoint"]["sha256"], told["data"]["fingerprint"], told["split"],
                      told["views"])  # fmt: skip
            confusion = torch.tensor(told["confusion"], dtype=torch.int64)
            loss = math.nan if told["loss"] is None else told["loss"]
            evaluation = Evaluation(confusion, tuple(told["class_names"]), loss)
            how = {word: told[word] for word in ("command", "revision", "hardware", "date")}
            result = Result(
                key, told["data"]["name"], evaluation, **how, crowd=told.get("crowd"), path=path
            )
            counted = (told["k"], told["n"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a result: {error!r}") from error
        if counted != (evaluation.k, evaluation.n):
            raise ValueError(f"{path} states {counted}, its confusion gives {evaluation}")
        return result

    def networks(self) -> list[tuple[MeasuredNetwork, list[Result]]]:
        """Every network that was measured, by name, with its results."""
        found = []
        for about in sorted(self.folder.glob(f"*/{ABOUT}")):
            network = MeasuredNetwork(**read_json(about))
            found.append((network, self.read_all(about.parent)))
        return found

    def read_all(self, folder: Path) -> list[Result]:
        """The results in a checkpoint's folder. Raises ValueError for one of another file."""
        digest = read_json(folder / ABOUT)["sha256"]
        results = [self.read(path) for path in whole_files(folder, "*.json") if path.name != ABOUT]
        for result in results:
            if result.key.sha256 != digest:
                raise ValueError(f"{result.path} was measured on another file than {folder.name}'s")
        return results

    def measured(self, checkpoint: Path) -> list[Result]:
        """The results of one checkpoint file, as its bytes are now; none where it has none."""
        digest = file_sha256(checkpoint)
        folder = self.folder_of(checkpoint.stem, digest)
        return self.read_all(folder) if (folder / ABOUT).exists() else []

    def find(self, network: MeasuredNetwork, key: Key) -> Result | None:
        """The result of a key, where it was measured."""
        folder = self.folder_of(network.name, network.sha256)
        known = self.read_all(folder) if (folder / ABOUT).exists() else []
        return next((result for result in known if result.key == key), None)

    def data_notes(self) -> dict[str, DataNotes]:
        """Facts about data sets, by fingerprint, in the order in which they were met."""
        path = self.folder / NOTES
        told = read_json(path) if path.exists() else {}
        return {key: DataNotes(**notes) for key, notes in told.items()}

    def openings(self) -> list[Opening]:
        """The log of test openings, oldest first."""
        path = self.folder / LOG
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return sorted((Opening(**json.loads(line)) for line in lines), key=lambda o: o.date)

    def notebook_record(self, name: str) -> dict[str, Any]:
        """What the notebook wrote of its run: results/notebook-NAME.json."""
        return read_json(self.folder / f"notebook-{name}.json")


def read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not whole JSON ({error})") from error


def to_json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def write_probabilities(path: Path, answers: FaceProbabilities) -> None:
    with atomic_path(path) as part:
        np.savez_compressed(part, **{name: getattr(answers, name) for name in PARTS})


def write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)
