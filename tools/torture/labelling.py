"""Labelling a folder that is killed again and again: each file is whole or absent, and in the end
all are there."""

import os
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from expression.app.examples import EXAMPLES
from tools.torture.cases import Outcome
from tools.torture.children import Children
from tools.torture.record import ROOT, Tally
from tools.torture.training import age_temporary_files, shared_out

__all__ = ["run"]

KILLS, KILLS_A_FOLDER = 50, 10
PICTURES, SIDE = 40, 160
MOST = 120.0  # seconds of a run of some seconds


def command(home: Path, out: Path) -> list[str]:
    return [
        sys.executable, "-m", "expression.cli", str(home / "photos"), "--csv",
        str(out / "faces.csv"), "--annotate", str(out / "drawn"), "--overwrite",
    ]  # fmt: skip


def run(tally: Tally, share: float, workers: int) -> None:
    """KILLS kills, some in each folder; `workers` runs side by side."""
    kills = max(round(KILLS * share), 1)
    with tempfile.TemporaryDirectory(prefix="torture-") as temporary:
        home = Path(temporary)
        (home / "photos").mkdir()
        with Image.open(EXAMPLES / "group.jpg") as photo:
            for number in range(PICTURES):
                small = photo.convert("RGB").rotate(number % 7).resize((SIDE, SIDE * 3 // 4))
                small.save(home / "photos" / f"{number:03}.jpg")
        calm = home / "calm"
        started = time.monotonic()
        if words := finished(command(home, calm)):
            tally.fault(0, f"the undisturbed run failed: {words}")
            return
        seconds, plan = time.monotonic() - started, shared_out(kills, KILLS_A_FOLDER)

        def label_one(number: int) -> Outcome:
            rng, began = random.Random(f"labelling {tally.seed} {number}"), time.monotonic()
            out = home / f"out{number}"
            labeller = Labeller(children, command(home, out), calm, out)
            told = labeller.compare(plan[number], seconds, rng)
            return Outcome(
                number, "fault" if told else "answered", told, time.monotonic() - began, 0
            )

        with ThreadPoolExecutor(workers) as pool, Children() as children:
            for outcome in pool.map(label_one, range(len(plan))):
                tally.add(outcome)
                print(f"  {plan[outcome.number]} kills: {outcome.words or 'same end'}", flush=True)
    tally.more["kills"] = kills
    tally.more["notes"] = (
        f"{kills} kills at random moments of a run over {PICTURES} pictures, up to "
        f"{KILLS_A_FOLDER} before a run may end; after each, the table and every drawn picture is "
        "whole or absent; in the end all are those of an undisturbed run, and no more is there."
    )


def finished(words: list[str]) -> str:
    """Run to the end; what was said where that failed, or ""."""
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, timeout=MOST, check=False
    )
    return "" if done.returncode == 0 else f"exit code {done.returncode}: {done.stderr[-300:]}"


@dataclass
class Labeller:
    """A run over a folder: `words` write into `out` what an undisturbed run wrote into `calm`."""

    children: Children
    words: list[str]
    calm: Path
    out: Path

    def compare(self, kills: int, seconds: float, rng: random.Random) -> str:
        """Kill some runs, then let one end; what is wrong, or ""."""
        done = 0
        for _ in range(kills * 4):
            if done == kills:
                break
            process = subprocess.Popen(
                self.words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            self.children.add(process)
            try:
                process.wait(rng.uniform(0.2, 1.0) * seconds)
            except subprocess.TimeoutExpired:
                done += 1
            finally:
                self.children.remove(process)
            if told := unlike(self.calm, self.out):
                return f"after a kill: {told}"
            age_temporary_files(self.out)
        if told := finished(self.words):
            return f"the run after the kills failed: {told}"
        return unlike(self.calm, self.out) or other_files(self.calm, self.out)


def other_files(calm: Path, out: Path) -> str:
    """Which files there are beside or instead of those of the undisturbed run; "" for none."""
    names = [{p.relative_to(at).as_posix() for p in at.rglob("*")} for at in (calm, out)]
    if names[0] == names[1]:
        return ""
    more, fewer = sorted(names[1] - names[0])[:3], sorted(names[0] - names[1])[:3]
    return f"in the end {more} is left and {fewer} missing"


def unlike(calm: Path, out: Path) -> str:
    """The first file with a name of its own that is another than that of the undisturbed run."""
    for folder, folders, names in os.walk(out):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(folder) / name for name in names if ".tmp" not in name):
            whole = calm / path.relative_to(out)
            if not whole.exists() or whole.read_bytes() != path.read_bytes():
                return f"{path.name} is not whole"
    return ""
