"""A training that is killed again and again ends bit for bit as one that nobody disturbed.

The process is forked from one that has imported torch already: what is killed is the training, not
the import. It runs what `experiments.py train` runs, on pictures that are drawn here.
"""

import contextlib
import json
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors import safe_open

from expression.checkpoint import load_checkpoint
from lab import evaluation
from lab.commands import run_command
from lab.parsing import parse
from lab.tensorboard_log import TensorBoardLog
from tools.torture.cases import Outcome
from tools.torture.children import Children
from tools.torture.data import write_folder
from tools.torture.record import Tally

__all__ = ["age_temporary_files", "run", "shared_out"]

KILLS, KILLS_A_TRAINING = 50, 10
EPOCHS, SIDE = 30, 16
FACES = {"train": 48, "validation": 12, "test": 6}
MOST = 120.0  # seconds of a training of some seconds
TIMED = ("minutes", "hardware", "command", "head_history")  # what two equal runs may differ in


def words_of(data: Path, out: Path, seed: int) -> list[str]:
    return [
        "train", "tinyvgg", "--data", str(data), "--name", "drawn", "--epochs", str(EPOCHS),
        "--size", str(SIDE), "--batch-size", "16", "--precision", "float32", "--device", "cpu",
        "--seed", str(seed), "--out", str(out),
        *(["--resume"] if any(out.glob("runs/**/state.pt")) else []),
    ]  # fmt: skip


def train(words: list[str], log: Path) -> None:
    """What the door does, with what is printed in a file."""
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        torch.set_num_threads(1)
        command, recipes = parse(words)
        with undrawn():
            run_command(command, recipes, "")


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Without figures and logs for people: they take ten times as long as this training."""
    with contextlib.ExitStack() as stack:
        for name in ("draw_all", "draw_history"):
            stack.enter_context(mock.patch.object(evaluation, name))
        for name in ("start", "resume", "epoch", "end"):
            stack.enter_context(mock.patch.object(TensorBoardLog, name))
        yield


def run(tally: Tally, share: float, workers: int) -> None:
    """KILLS kills, some in each training; `workers` trainings side by side."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tools.torture.training"])
    plan = shared_out(max(round(KILLS * share), 1), KILLS_A_TRAINING)
    with tempfile.TemporaryDirectory(prefix="torture-") as home:
        data = write_folder(Path(home) / "drawn", FACES, SIDE)

        def train_one(number: int) -> Outcome:
            rng, started = random.Random(f"training {tally.seed} {number}"), time.monotonic()
            trainer = Trainer(context, children, data, Path(home) / str(number), number)
            told = trainer.compare(plan[number], rng)
            verdict = "fault" if told else "answered"
            return Outcome(number, verdict, told, time.monotonic() - started, 0)

        with ThreadPoolExecutor(workers) as pool, Children() as children:
            for outcome in pool.map(train_one, range(len(plan))):
                tally.add(outcome)
                print(f"  {plan[outcome.number]} kills: {outcome.words or 'same end'}", flush=True)
    tally.more["kills"] = sum(plan)
    tally.more["notes"] = (
        f"{sum(plan)} kills, up to {KILLS_A_TRAINING} in each training, at random moments; then "
        "weights, figures and history are those of an undisturbed training, and no temporary file "
        "is left. No plots are drawn."
    )


def shared_out(count: int, most: int) -> list[int]:
    """`count` kills in as few runs as `most` in each allow: 12, 5 → [5, 5, 2]."""
    return [min(most, count - done) for done in range(0, count, most)]


@dataclass
class Trainer:
    """One training, undisturbed in `home`/calm and with kills in `home`/cut."""

    context: Any  # of multiprocessing
    children: Children
    data: Path
    home: Path
    seed: int

    def __post_init__(self) -> None:
        self.home.mkdir()
        self.calm, self.cut, self.log = (self.home / name for name in ("calm", "cut", "log.txt"))

    def start(self, out: Path) -> Any:
        words = words_of(self.data, out, self.seed)
        process = self.context.Process(target=train, args=(words, self.log))
        process.start()
        return self.children.add(process)

    def finish(self, out: Path) -> str:
        """Train to the end; what was printed last where that failed, or ""."""
        process = self.start(out)
        try:
            process.join(MOST)
            return "" if process.exitcode == 0 else self.log.read_text()[-300:] or "no end"
        finally:
            self.children.remove(process)

    def compare(self, kills: int, rng: random.Random) -> str:
        """Train undisturbed, then with kills; what is wrong in the end, or ""."""
        started = time.monotonic()
        if words := self.finish(self.calm):
            return f"the undisturbed training failed: {words}"
        seconds, done = time.monotonic() - started, 0
        for _ in range(kills * 4):
            if done == kills:
                break
            process = self.start(self.cut)
            try:
                process.join(rng.uniform(0.05, 0.6) * seconds)
                done += process.is_alive()
                if process.exitcode:
                    return f"going on ended with {process.exitcode}: {self.log.read_text()[-300:]}"
            finally:
                self.children.remove(process)
            age_temporary_files(self.cut)
        if words := self.finish(self.cut):
            return f"the last going on failed: {words}"
        return difference(self.calm, self.cut)


def age_temporary_files(folder: Path) -> None:
    """As if ten minutes had passed: what nobody has written to since then is swept."""
    for path in folder.rglob("*"):
        if ".tmp" in str(path.relative_to(folder)):
            with contextlib.suppress(OSError):
                os.utime(path, (0, 0))


def difference(calm: Path, cut: Path) -> str:
    """In what two trainings differ; "" where they ended the same."""
    if left := [path.name for path in cut.rglob("*.tmp*")]:
        return f"left {', '.join(sorted(left)[:3])}"
    names = [sorted(p.name for p in (home / "checkpoints").iterdir()) for home in (calm, cut)]
    if names[0] != names[1]:
        return f"files {names[1]}, undisturbed {names[0]}"
    for path in (calm / "checkpoints").glob("*.safetensors"):
        ours, theirs = path, cut / "checkpoints" / path.name
        first, second = load_checkpoint(ours)[0], load_checkpoint(theirs)[0]
        if first.keys() != second.keys() or any(
            first[name].tobytes() != second[name].tobytes() for name in first
        ):
            return "other weights"
        one, other = comparable(ours), comparable(theirs)
        if keys := [key for key in one if one[key] != other.get(key)]:
            return f"other {', '.join(keys)} in the card"
    return ""


def comparable(path: Path) -> dict[str, Any]:
    """A card without what tells the time."""
    with safe_open(path, framework="np") as file:
        card: dict[str, Any] = json.loads(file.metadata()["expression"])
    history = {key: values for key, values in card["history"].items() if key != "seconds"}
    return {key: value for key, value in card.items() if key not in TIMED} | {"history": history}
