"""A disk that is full while something is written: what stood there stays, and nothing half is left.

Each case leaves a file system a random number of bytes and then writes to it. The file system is a
small tmpfs of its own where the system lets one be mounted (`unshare`, or root); elsewhere a limit
of a file's size (RLIMIT_FSIZE) stands for it.
"""

import contextlib
import csv
import io
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from expression import cli
from expression.app.examples import EXAMPLES
from expression.checkpoint import load_checkpoint, save_checkpoint
from expression.terminal import escape_unprintable
from tools.torture.cards import card
from tools.torture.cases import Outcome, not_one_sentence
from tools.torture.record import ROOT, Tally
from tools.torture.videos import write_film
from train_state import load_state, save_state

__all__ = ["Disk", "run", "try_one"]

CASES = 300
DISK = 2_000_000  # bytes
MOUNT = ("unshare", "--user", "--map-root-user", "--mount")
TMPFS, LIMIT = "a tmpfs of 2 MB", "a limit of a file's size"


def run(tally: Tally, share: float, workers: int) -> None:
    """All cases in one process inside a mount namespace, or with limits where that is refused."""
    count = max(round(CASES * share), 1)
    child = [sys.executable, "-m", "tools.torture.disk", str(tally.seed), str(count)]
    mounted = shutil.which(MOUNT[0]) and not subprocess.run(
        [*MOUNT, "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tempfile.gettempdir()],
        capture_output=True, check=False,
    ).returncode  # fmt: skip
    way = TMPFS if mounted else LIMIT
    words = [*(MOUNT if mounted else ()), *child, way]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            for line in process.stdout:
                tally.add(Outcome(**json.loads(line)))
        finally:
            process.kill()
    if tally.tried != count:
        tally.fault(tally.tried, f"ended after {tally.tried} of {count} cases")
    tally.more["notes"] = (
        f"Full disk: {way}, with room for a random number of bytes; a checkpoint, a state, a "
        "table, drawn pictures, sorted copies and an annotated video are written."
    )


class Disk:
    """A folder with little room; `room(bytes)` is a context in which it has no more."""

    def __init__(self, folder: Path, way: str) -> None:
        self.folder, self.way = folder, way
        if way == TMPFS:
            options = f"size={DISK}"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)

    @contextlib.contextmanager
    def room(self, count: int) -> Iterator[None]:
        if self.way == TMPFS:
            filler = self.folder / "filler"
            free = shutil.disk_usage(self.folder).free
            filler.write_bytes(bytes(max(free - count, 0)))
            try:
                yield
            finally:
                filler.unlink()
            return
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)


# --- what is written: each returns a sentence for what is wrong, or raises as it is documented ---


def a_checkpoint(home: Path, disk: Disk, count: int) -> str:
    path = home / "network.safetensors"
    save_checkpoint(path, {"w": np.zeros(3)}, card("tinyvgg", {}))
    with disk.room(count):
        save_checkpoint(path, {"w": np.ones(20_000)}, card("tinyvgg", {}))
    return "" if load_checkpoint(path)[0]["w"].sum() == 20_000 else "written, and not whole"


def a_state(home: Path, disk: Disk, count: int) -> str:
    path, model = home / "state.pt", nn.Linear(300, 60)
    save_state(path, model=nn.Linear(300, 60), epoch=1)
    with disk.room(count):
        save_state(path, model=model, epoch=2)
    return "" if load_state(path)["epoch"] == 2 else "written, and not whole"


def labelled(*words: str) -> Callable[[Path, Disk, int], str]:
    """The command line on the inputs, with outputs on the full disk."""

    def case(home: Path, disk: Disk, count: int) -> str:
        inputs = home.parent.parent / "inputs"
        with disk.room(count), contextlib.redirect_stderr(io.StringIO()) as said:
            with contextlib.redirect_stdout(io.StringIO()):
                given = [word.format(home=home, inputs=inputs) for word in words]
                code = cli.main(given)
        if code:
            lines = [line for line in said.getvalue().splitlines() if line.startswith("error: ")]
            raise OSError("; ".join(lines) or said.getvalue())
        return ""

    return case


WRITTEN: dict[str, Callable[[Path, Disk, int], str]] = {
    "checkpoint": a_checkpoint,
    "state": a_state,
    "table": labelled("{inputs}/photos", "--csv", "{home}/faces.csv"),
    "drawings": labelled("{inputs}/photos", "--annotate", "{home}/drawn"),
    "copies": labelled("{inputs}/photos", "--sort-into", "{home}/sorted"),
    "video": labelled("{inputs}/film.mp4", "--annotate", "{home}/drawn"),
}
LARGEST = {"checkpoint": 200_000, "state": 100_000, "table": 3000, "drawings": 60_000,
           "copies": 30_000, "video": 60_000}  # fmt: skip


def try_one(number: int, seed: int, disk: Disk) -> Outcome:
    """Write one thing with too little room for it, or just enough."""
    rng = random.Random(f"disk {seed} {number}")
    kind = rng.choice(sorted(WRITTEN))
    count, home = rng.randrange(round(LARGEST[kind] * 1.2)), disk.folder / str(number)
    home.mkdir()
    started = time.perf_counter()
    try:
        words = WRITTEN[kind](home, disk, count)
        verdict = "fault" if words else "answered"
    except (OSError, ValueError) as error:
        words, verdict = str(error), "refused"
        if wrong := not_one_sentence(words):
            verdict, words = "fault", f"refused with {wrong}: {words[:300]}"
    except Exception as error:
        verdict, words = "fault", f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - started
    if verdict != "fault" and (broken := not_whole(home)):
        verdict, words = "fault", f"{broken}; {words}"
    shutil.rmtree(home)
    return Outcome(number, verdict, f"{kind}, room for {count} bytes: {words}", seconds, 0)


def not_whole(home: Path) -> str:
    """The first file that is half, or temporary; "" where all are whole."""
    for path in sorted(home.rglob("*")):
        if ".tmp" in path.name:
            return f"left {path.name}"
        try:
            if path.suffix == ".safetensors":
                load_checkpoint(path)
            elif path.suffix == ".pt":
                load_state(path)
            elif path.suffix in (".jpg", ".png"):
                with Image.open(path) as image:
                    image.load()
            elif path.suffix == ".csv":
                widths = {len(row) for row in csv.reader(path.read_text("utf-8").splitlines())}
                if len(widths) > 1:
                    return f"{path.name} ends in half a row"
        except (OSError, ValueError) as error:
            return f"{path.name} is not whole: {error}"
    return ""


def write_inputs(folder: Path) -> None:
    (folder / "photos").mkdir(parents=True)
    with Image.open(EXAMPLES / "portrait.jpg") as photo:
        small = photo.convert("RGB").resize((120, 120))
    for number in range(4):
        small.rotate(number).save(folder / "photos" / f"{number}.jpg")
    write_film(folder / "film.mp4", ("libx264", "mpeg4"))


def main(seed: int, count: int, way: str) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="torture-") as home:
        write_inputs(Path(home) / "inputs")
        (Path(home) / "disk").mkdir()
        disk = Disk(Path(home) / "disk", way)
        try:
            for number in range(count):
                print(json.dumps(try_one(number, seed, disk).__dict__), flush=True)
        finally:
            if way == TMPFS:
                subprocess.run(["umount", "--lazy", disk.folder], check=False)


if __name__ == "__main__":
    escape_unprintable()
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
