"""Many cases in few processes: whoever crashes or does not come back is ended and replaced.

Why: a process a case would spend the half hour on imports; all cases in one process would end with
the first crash. So each process takes numbers one by one, and the parent watches the clock.
"""

import contextlib
import faulthandler
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tools.torture.bounds import KILL_AFTER
from tools.torture.cases import FileAttack, Outcome, Wrong, judge, memory_mb

__all__ = ["load_attack", "run_cases"]

ROOM = 4 << 30  # bytes of addresses beyond what a process has at rest: a runaway ends itself


def load_attack(name: str, scratch: Path) -> FileAttack:
    """The attack of a module of this package, ready to ask."""
    return import_module(f"tools.torture.{name}").Attack(scratch)


@dataclass
class Worker:
    """A process, the case it works on, and since when."""

    process: Any
    pipe: Connection
    scratch: Path
    number: int | None = None
    since: float = field(default_factory=time.monotonic)
    ready: bool = False

    def give(self, number: int | None) -> None:
        self.number, self.since = number, time.monotonic()
        self.pipe.send(number)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


def start(name: str, seed: int) -> Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    scratch = Path(tempfile.mkdtemp(prefix="torture-"))
    process = context.Process(target=work, args=(name, seed, theirs, scratch), daemon=True)
    process.start()
    theirs.close()
    return Worker(process, ours, scratch)


def run_cases(
    name: str, numbers: Iterable[int], seed: int, workers: int, tell: Callable[[Outcome], None]
) -> None:
    """Try each case of an attack; `tell` is called with each outcome, in no fixed order.

    Raises RuntimeError where a process ends before its first case: then the attack is broken.
    """
    waiting = deque(numbers)
    running = [start(name, seed) for _ in range(min(workers, len(waiting)))]
    try:
        while running:
            for pipe in wait([worker.pipe for worker in running], timeout=0.5):
                worker = next(one for one in running if one.pipe is pipe)
                lost = take(worker, waiting, tell)
                if lost:
                    running.remove(worker)
                    running += [start(name, seed)] if waiting else []
            for worker in list(running):
                if worker.number is not None and time.monotonic() - worker.since > KILL_AFTER:
                    words = f"did not come back in {KILL_AFTER:.0f} s{last_words(worker)}"
                    tell(Outcome(worker.number, "fault", words, KILL_AFTER, 0))
                    worker.end()
                    running.remove(worker)
                    running += [start(name, seed)] if waiting else []
    finally:
        for worker in running:
            worker.end()


def take(worker: Worker, waiting: deque[int], tell: Callable[[Outcome], None]) -> bool:
    """Read what a process sent and give it the next number; True where it has ended."""
    try:
        outcome = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join()
        if not worker.ready:
            raise RuntimeError(f"the attack does not start{last_words(worker)}") from None
        if worker.number is not None:
            words = f"crashed with exit code {worker.process.exitcode}{last_words(worker)}"
            tell(Outcome(worker.number, "fault", words, time.monotonic() - worker.since, 0))
        worker.end()
        return True
    worker.ready = True
    if outcome is not None:
        tell(outcome)
    if waiting:
        worker.give(waiting.popleft())
        return False
    with contextlib.suppress(OSError):
        worker.pipe.send(None)
    worker.process.join(5)  # kindly: what it shares with others is given back
    worker.end()
    return True


def last_words(worker: Worker) -> str:
    """Where a process stood, from the file that faulthandler and Python wrote."""
    with contextlib.suppress(OSError):
        lines = (worker.scratch / "stderr").read_text("utf-8", "replace").strip().splitlines()
        told = [line.strip() for line in lines if line.strip()]
        return f": {' | '.join(told[:6])[:500]}" if told else ""
    return ""


# --- the process ---


def work(name: str, seed: int, pipe: Connection, scratch: Path) -> None:
    """Take numbers from the pipe and send outcomes, until it is closed or sends None."""
    temporary = scratch / "temporary"
    temporary.mkdir()
    os.environ["TMPDIR"] = str(temporary)
    os.environ["HF_HOME"] = str(scratch / "hub")
    tempfile.tempdir = None  # what was found before does not count
    stderr = (scratch / "stderr").open("w")
    os.dup2(stderr.fileno(), 2)
    faulthandler.enable(stderr)
    attack = load_attack(name, scratch)
    attack.control(scratch)
    limit_addresses()
    pipe.send(None)
    done = 0
    while (number := pipe.recv()) is not None:
        faulthandler.dump_traceback_later(KILL_AFTER * 0.9, file=stderr)
        outcome = judge(attack, name, number, seed, scratch)
        faulthandler.cancel_dump_traceback_later()
        done += 1
        if done % attack.control_every == 0 and outcome.verdict != "fault":
            outcome = controlled(attack, outcome, scratch)
        pipe.send(outcome)


def controlled(attack: FileAttack, outcome: Outcome, scratch: Path) -> Outcome:
    try:
        attack.control(scratch)
    except Wrong as error:
        words = f"after this case a whole file is answered otherwise: {error}"
        return Outcome(outcome.number, "fault", words, outcome.seconds, outcome.peak_mb)
    return outcome


def limit_addresses() -> None:
    with contextlib.suppress(OSError, ValueError):
        if now := memory_mb("VmSize"):
            most = int(now * 1e6) + ROOM
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
