"""What an attack found, kept in results/torture.json: one entry an attack, written when it ends."""

import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from expression.files import atomic_write
from lab.provenance import revision
from tools.torture.bounds import MEMORY_MB, SERVER_MB
from tools.torture.cases import Outcome

__all__ = ["ROOT", "Tally", "machine", "read", "write"]

ROOT = Path(__file__).resolve().parents[2]
KEPT = 50  # faults that are listed; the number of all is told


@dataclass
class Tally:
    """Counts the outcomes of one attack; a context-free sum that the record and the page use."""

    name: str
    seed: int
    answered: int = 0
    refused: int = 0
    faults: list[dict[str, Any]] = field(default_factory=list)
    slowest: Outcome | None = None
    peak: Outcome | None = None
    started: float = field(default_factory=time.monotonic)
    more: dict[str, Any] = field(default_factory=dict)  # figures of this attack alone

    def add(self, outcome: Outcome) -> None:
        bound = MEMORY_MB.get(self.name, float("inf"))
        if outcome.verdict != "fault" and outcome.peak_mb > bound:
            words = f"{outcome.peak_mb:.0f} MB, more than {bound} MB: {outcome.words}"
            outcome = Outcome(outcome.number, "fault", words, outcome.seconds, outcome.peak_mb)
        if outcome.verdict == "answered":
            self.answered += 1
        elif outcome.verdict == "refused":
            self.refused += 1
        else:
            self.fault(outcome.number, outcome.words)
        if self.slowest is None or outcome.seconds > self.slowest.seconds:
            self.slowest = outcome
        if self.peak is None or outcome.peak_mb > self.peak.peak_mb:
            self.peak = outcome

    def fault(self, number: int, words: str) -> None:
        again = f"python -m tools.torture --only {self.name} --seed {self.seed} --case {number}"
        self.faults.append({"case": number, "what": words, "again": again})

    def add_server(
        self,
        counts: Mapping[str, int],
        seconds: Mapping[str, Sequence[float]],
        memory: Sequence[float],
    ) -> None:
        """What a server's clients met: counts of what became of requests, {kind of request:
        seconds of those that were answered}, and its memory in MB before, at most and after."""
        self.answered += counts["answered"] + counts["hung up"]
        self.refused += counts["refused"]
        slowest = max((max(times) for times in seconds.values() if times), default=0.0)
        self.more |= {
            "slowest": {"seconds": round(slowest, 2), "case": None},
            "peak_mb": round(memory[1]), "bound_mb": SERVER_MB,
            "percentiles": {kind: percentiles(times) for kind, times in sorted(seconds.items())},
            "memory_mb": dict(zip(("before", "peak", "after"), map(round, memory), strict=True)),
        }  # fmt: skip

    @property
    def tried(self) -> int:
        return self.answered + self.refused + len(self.faults)

    def entry(self, command: str) -> dict[str, Any]:
        """What is kept of the attack."""
        slowest, peak = self.slowest, self.peak
        return {
            "tried": self.tried, "answered": self.answered, "refused": self.refused,
            "faults": len(self.faults), "fault_list": self.faults[:KEPT],
            "slowest": slowest and {"seconds": round(slowest.seconds, 2), "case": slowest.number},
            "peak_mb": round(peak.peak_mb) if peak else None,
            "bound_mb": MEMORY_MB.get(self.name), **self.more,
            "seconds": round(time.monotonic() - self.started, 1), "seed": self.seed,
            "command": command, "revision": revision(), "date": date.today().isoformat(),
            "machine": machine(),
        }  # fmt: skip


def percentiles(times: Sequence[float]) -> list[float]:
    """The 50th, 95th and 99th of some seconds; [] of none."""
    ranked = sorted(times)
    places = (min(int(part * len(ranked)), len(ranked) - 1) for part in (0.5, 0.95, 0.99))
    return [round(ranked[place], 2) for place in places] if ranked else []


def machine() -> str:
    """The processor, its cores and the versions of system and Python."""
    names = []
    if (info := Path("/proc/cpuinfo")).exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    python = ".".join(map(str, sys.version_info[:3]))
    return f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {python}"


def read(path: Path) -> dict[str, Any]:
    """The attacks by name; {} where none was recorded yet."""
    if not path.exists():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["attacks"]
    return found


def write(path: Path, attacks: dict[str, Any]) -> None:
    text = json.dumps({"attacks": attacks}, indent=1, ensure_ascii=False) + "\n"
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
