"""One case of an attack with files: a broken file, what the program made of it, and the verdict."""

import contextlib
import io
import os
import random
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tools.torture.bounds import HANG, LONGEST_SENTENCE

__all__ = ["FileAttack", "Outcome", "Wrong", "judge", "memory_mb", "not_one_sentence"]


class Wrong(Exception):
    """An answer that is wrong: where a file was whole, or that contradicts itself."""


@dataclass(frozen=True)
class Outcome:
    """What became of one case; `words` is the refusal, or what went wrong."""

    number: int
    verdict: str  # "answered", "refused" or "fault"
    words: str
    seconds: float
    peak_mb: float


class FileAttack:
    """A kind of broken file, and how the program is asked about it; made once in each process."""

    count: ClassVar[int] = 100
    errors: ClassVar[tuple[type[Exception], ...]] = (OSError, ValueError)  # the documented ones
    control_every: ClassVar[int] = 100  # cases, until whole files are asked again

    def __init__(self, scratch: Path) -> None:
        """Make the whole files and load what answers; `scratch` lasts as long as the process."""

    def try_one(self, rng: random.Random, folder: Path) -> None:
        """Break a file, which stands in the empty `folder`, and ask about it.

        Returns where it was answered; raises one of `errors` where it was refused, `Wrong` for a
        wrong answer.
        """
        raise NotImplementedError

    def sentence(self, error: Exception) -> str:
        """The refusal as whoever gave the file reads it."""
        return str(error)

    def control(self, folder: Path) -> None:
        """Ask about whole files; raises `Wrong` where an answer is another than at the start."""


def memory_mb(field: str = "VmHWM", process: int | str = "self") -> float:
    """A process's memory in MB, now (VmRSS) or at most (VmHWM); 0 where the system does not say."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1000
    return 0.0


def forget_peak() -> None:
    """Start measuring the highest memory anew."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def not_one_sentence(words: str) -> str:
    """What is wrong with a refusal; "" where nothing is."""
    if not words.strip():
        return "no words"
    if "\n" in words.strip() or "Traceback" in words:
        return "more than one line"
    if len(words) > LONGEST_SENTENCE:
        return f"{len(words)} characters"
    if "allocate memory" in words:  # refused by the machine, not by the program
        return "all memory taken"
    if "weights_only=False" in words:
        return "advice that would run what the file holds"
    return ""


@contextlib.contextmanager
def watched_stderr() -> Iterator[io.StringIO]:
    """What Python code and what libraries write to standard error, collected."""
    collected = io.StringIO()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as raw:
        os.dup2(raw.fileno(), 2)
        try:
            with contextlib.redirect_stderr(collected):
                yield collected
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            raw.seek(0)
            collected.write(raw.read().decode("utf-8", "replace"))


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_dir()}


def judge(attack: FileAttack, name: str, number: int, seed: int, scratch: Path) -> Outcome:
    """Try one case; slow ones twice, because other programs may have held the machine up."""
    outcome = judge_once(attack, name, number, seed, scratch)
    if outcome.seconds > HANG:
        again = judge_once(attack, name, number, seed, scratch)
        outcome = min(outcome, again, key=lambda one: one.seconds)
        if outcome.seconds > HANG:
            words = f"took {outcome.seconds:.1f} s: {outcome.words}"
            return Outcome(number, "fault", words, outcome.seconds, outcome.peak_mb)
    return outcome


def judge_once(attack: FileAttack, name: str, number: int, seed: int, scratch: Path) -> Outcome:
    temporary = Path(tempfile.gettempdir())
    own = scratch in temporary.parents  # else other programs write there too
    before = files_in(temporary) if own else set()
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        forget_peak()
        started = time.perf_counter()
        with watched_stderr() as said:
            verdict, words = tried(attack, random.Random(f"{name} {seed} {number}"), Path(folder))
        seconds, peak = time.perf_counter() - started, memory_mb()
    left = files_in(temporary) - before if own else set()
    if verdict != "fault" and left:
        verdict, words = "fault", f"left {', '.join(sorted(path.name for path in left)[:3])}"
    if verdict != "fault" and said.getvalue().strip():
        verdict, words = "fault", f"wrote to standard error: {said.getvalue().strip()[:300]}"
    return Outcome(number, verdict, words, seconds, peak)


def tried(attack: FileAttack, rng: random.Random, folder: Path) -> tuple[str, str]:
    try:
        attack.try_one(rng, folder)
    except Wrong as error:
        return "fault", f"wrong answer: {error}"
    except attack.errors as error:
        words = attack.sentence(error)
        if wrong := not_one_sentence(words):
            return "fault", f"refused with {wrong}: {words[:300]!r}"
        return "refused", words
    except MemoryError:
        return "fault", "MemoryError"
    except Exception as error:  # what the program did not foresee is what is looked for
        return "fault", f"{type(error).__name__}: {str(error)[:200]} at {where(error)}"
    return "answered", ""


def where(error: Exception) -> str:
    """The last places of this repository in an error's traceback."""
    frames: Sequence[traceback.FrameSummary] = traceback.extract_tb(error.__traceback__)
    root = Path(__file__).resolve().parents[2]
    ours = [
        f"{Path(frame.filename).relative_to(root)}:{frame.lineno}"
        for frame in frames
        if Path(frame.filename).is_relative_to(root) and ".venv" not in frame.filename
    ]
    return " ← ".join(ours[:-4:-1]) or "unknown place"
