"""`expression label` on Ray: its workers and its driver are killed again and again; in the end each
picture is there once, with the answer that one process gives, and nothing is left running."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
from PIL import Image

from expression.app.examples import EXAMPLES
from expression.bulk.cluster import TEMPORARY
from expression.predictor import ExpressionPredictor
from expression.video import VideoWriter
from tools.torture.cases import Outcome
from tools.torture.children import Children
from tools.torture.record import ROOT, Tally

__all__ = ["Labelling", "draw_photos", "fault_of", "run"]

PICTURES, DRIVERS, WORKERS = 10_000, 4, 20  # and how many of each are killed
KINDS = 40  # of pictures; each is copied many times
MOST, SOON = 900.0, 60.0  # seconds of one run; until nothing may be left of it
FURTHER_STARTS = 2  # where Ray does not start at all: the machine is too busy
CLOSE = 1e-3  # between probabilities: faces of other pictures in the batch change the last digits
Answers = Mapping[str, Sequence[tuple[Any, ...]]]  # {kind of picture: (box, label, probs) each}


def run(tally: Tally, share: float, workers: int) -> None:
    """A share of PICTURES, with a share of the kills, at least one of each kind."""
    rng = random.Random(f"bulk {tally.seed}")
    count = max(round(PICTURES * share), KINDS)
    with tempfile.TemporaryDirectory(prefix="torture-") as temporary, Children() as children:
        home = Path(temporary)
        kinds = draw_photos(home, count)
        wanted = answers_of(home, sorted(set(kinds.values())))
        labelling = Labelling(home, children, part=max(count // 40, 5))
        began = time.monotonic()
        told = labelling.kill(max(round(DRIVERS * share), 1), max(round(WORKERS * share), 1), rng)
        if told:
            tally.fault(0, told)
        found = rows_by_source(home / "out") if not told else {}
        for number, (name, kind) in enumerate(kinds.items() if not told else ()):
            words = fault_of(found.pop(str(home / "photos" / name), []), wanted[kind])
            verdict = "fault" if words else "refused" if kind == "broken" else "answered"
            tally.add(Outcome(number, verdict, f"{name}: {words}" if words else "", 0.0, 0))
        if found:
            tally.fault(count, f"{len(found)} rows of what is no picture: {min(found)}")
    tally.more |= {"drivers_killed": labelling.drivers, "workers_killed": labelling.workers}
    seconds = time.monotonic() - began
    tally.more["notes"] = (
        f"{count:,} pictures and a film on two workers of Ray, of which {labelling.workers} were "
        f"killed; the driver {labelling.drivers} times; at random moments of {seconds:.0f} s. Each "
        "run went on where the last one stood: none is lost, none twice, each has the answer of "
        "one process; no process and no file in the folder for temporary files outlived its run; "
        "no socket listened or led elsewhere than to this machine."
    )


def draw_photos(home: Path, count: int) -> dict[str, str]:
    """Pictures of one face, of none, broken ones, and a film; {name in home/photos: its kind}."""
    masters = home / "kinds"
    masters.mkdir()
    with Image.open(EXAMPLES / "portrait.jpg") as photo:
        small = photo.convert("RGB").resize((96, 120))
    for k in range(KINDS):
        shown = Image.new("RGB", (96, 96), (6 * k, 99, 50)) if k % 20 == 3 else small.rotate(k % 9)
        shown.save(masters / f"{k}.jpg", quality=95 - k)
    (masters / "broken").write_bytes(b"no picture")
    with VideoWriter(masters / "film.mp4") as film:
        for k in range(10):
            film.write(small, k / 10)
    names = {}
    for k in range(count - 1):
        kind = "broken" if k % 50 == 7 else f"{k % KINDS}.jpg"
        names[f"{k % 7}/{k:05}.jpg"] = kind
    names["film.mp4"] = "film.mp4"
    for name, kind in names.items():
        path = home / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(masters / kind, path)
    return names


def answers_of(home: Path, kinds: Sequence[str]) -> dict[str, list[tuple[Any, ...]] | None]:
    """What one process answers to each kind; None for one that cannot be opened."""
    from expression.frames import read_frames

    predictor = ExpressionPredictor()
    answers: dict[str, list[tuple[Any, ...]] | None] = {"broken": None}
    for kind in kinds:
        path = home / "kinds" / kind
        if kind == "film.mp4":
            track = predictor.tracker()
            faces = [face for f in read_frames(path) for face in track(f.image, f.seconds)]
        elif kind != "broken":
            faces = predictor.find(path)
        else:
            continue
        answers[kind] = [
            (face.box, face.label, [face.probs[n] for n in predictor.class_names]) for face in faces
        ]
    return answers


def rows_by_source(out: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in ds.dataset(out / "faces").to_table().to_pylist():
        found.setdefault(row["source"], []).append(row)
    return found


def fault_of(rows: Sequence[Mapping[str, Any]], wanted: Sequence[tuple[Any, ...]] | None) -> str:
    """What is wrong with the rows of one picture, or ""."""
    if not rows:
        return "lost"
    if wanted is None or not wanted:
        if len(rows) > 1:
            return f"{len(rows)} rows for a picture without an answer"
        broken = bool(rows[0]["error"])
        right = rows[0]["face"] == 0 and broken == (wanted is None)
        return "" if right else f"face {rows[0]['face']}, error {rows[0]['error']!r}"
    if len(rows) != len(wanted):
        return f"{len(rows)} faces, one process finds {len(wanted)}"
    ordered = sorted(rows, key=lambda row: (row["seconds"] or 0.0, row["face"]))
    for row, (box, label, probs) in zip(ordered, wanted, strict=True):
        found = tuple(row[name] for name in ("x", "y", "width", "height"))
        if found != box or row["label"] != label:
            return f"{row['label']} at {found}, one process answers {label} at {box}"
        values = list(row.values())[-len(probs) :]
        if max(abs(a - b) for a, b in zip(values, probs, strict=True)) > CLOSE:
            return f"probabilities {values}, one process answers {probs}"
    return ""


@dataclass
class Labelling:
    """Runs of `expression label` over home/photos into home/out, one after the other."""

    home: Path
    children: Children
    part: int
    drivers: int = 0  # killed so far
    workers: int = 0
    seen: dict[int, str] = field(default_factory=dict)  # processes of all runs
    started: list[int] = field(default_factory=list)  # their drivers

    def kill(self, drivers: int, workers: int, rng: random.Random) -> str:
        """Let runs be killed, then one end; what went wrong, or ""."""
        share = -(-workers // (drivers + 1))  # workers to kill in each run
        starts = drivers + 1 + FURTHER_STARTS
        while True:
            starts -= 1
            last = self.drivers == drivers
            with (self.home / "log.txt").open("w") as log:
                process = self.start(log)
                try:
                    told = self.disturb(process, share, workers, last, rng)
                finally:
                    self.children.remove(process)
            said = (self.home / "log.txt").read_text(encoding="utf-8", errors="replace")
            if starts > 0 and "Ray does not start" in said:
                continue
            if told or (last and process.returncode):
                return f"{told or f'exit code {process.returncode}'}: {said[-300:]}"
            if last:
                break
        if len(said.splitlines()) != 1 or "labelled before" not in said:
            return f"the last run said {said[:300]!r}"
        return self.left()

    def start(self, log: Any) -> Any:
        words = ["label", str(self.home / "photos"), "--out", str(self.home / "out")]
        options = ["--workers", "2", "--chunk", str(max(self.part // 2, 1))]
        process = subprocess.Popen(
            [sys.executable, "predict.py", *words, *options, "--part", str(self.part)],
            cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.started.append(process.pid)
        return self.children.add(process)

    def disturb(
        self, process: Any, share: int, workers: int, last: bool, rng: random.Random
    ) -> str:
        """Kill some workers, each after another part is written, and then the driver."""
        deadline = time.monotonic() + MOST
        goal = min(self.workers + share, workers)
        parts = self.parts()
        while process.poll() is None:
            if time.monotonic() > deadline:
                return f"no end after {MOST:.0f} s"
            if self.parts() == parts:
                time.sleep(0.02)
                continue
            time.sleep(rng.uniform(0, 0.5))
            parts, below = self.parts(), processes_below(process.pid)
            self.seen |= below
            if open_to_others := [place for place in sockets_of(below) if not is_loopback(place)]:
                return f"a socket that others reach, or that leads to them: {open_to_others}"
            busy = [number for number, name in below.items() if "MapWorker" in name]
            if self.workers < goal and busy:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rng.choice(busy), signal.SIGKILL)
                    self.workers += 1
            elif not last:
                process.kill()
                process.wait()
                self.drivers += 1
                return ""
        return "" if last else "ended before it was killed"

    def parts(self) -> int:
        return len(list((self.home / "out").glob("faces/part-*.parquet")))

    def left(self) -> str:
        """Processes and folders that outlived their run, or ""."""
        deadline = time.monotonic() + SOON
        while left := [name for number, name in self.seen.items() if alive(number)]:
            if time.monotonic() > deadline:
                return f"left running: {', '.join(left)}"
            time.sleep(0.1)
        found = [TEMPORARY.fullmatch(path.name) for path in Path("/tmp").glob("expression-ray-*")]
        folders = [match[0] for match in found if match and int(match[1]) in self.started]
        return f"left in the folder of temporary files: {folders}" if folders else ""


def state_of(process: int) -> tuple[str, int, str] | None:
    """(state, parent, name) of a process; None where there is none. Linux tells it."""
    try:
        head, _, rest = Path(f"/proc/{process}/stat").read_text().rpartition(")")
        words = Path(f"/proc/{process}/cmdline").read_bytes()[:60].replace(b"\0", b" ")
        state, parent = rest.split()[:2]
        return state, int(parent), f"{head.partition('(')[2]} {words.decode(errors='replace')}"
    except (OSError, ValueError):
        return None


def alive(process: int) -> bool:
    found = state_of(process)
    return found is not None and found[0] != "Z"


def processes_below(driver: int) -> dict[int, str]:
    """{process: its name} of all that a process started, and those did."""
    numbers = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    states = {number: found for number in numbers if (found := state_of(number))}
    below, parents = dict[int, str](), {driver}
    while parents:
        parents = {n for n, (_, parent, _) in states.items() if parent in parents} - below.keys()
        below |= {number: states[number][2] for number in parents}
    return below


def sockets_of(processes: Mapping[int, str]) -> list[str]:
    """The addresses, as Linux writes them, that processes listen at or are connected with."""
    inodes = set()
    for number in processes:
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{number}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes.add(os.readlink(entry).removeprefix("socket:[").rstrip("]"))
    found = []
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
            words = line.split()
            if words[9] in inodes:
                listens = int(words[2].partition(":")[2], 16) == 0
                found.append(words[1 if listens else 2].partition(":")[0])
    return found


def is_loopback(address: str) -> bool:
    """Of 127.0.0.0/8 or ::1, as /proc/net writes them: bytes of a word in the machine's order."""
    last = bytes.fromhex(address)[-4:]
    mapped = len(address) == 8 or address[16:24].upper() == "FFFF0000"
    if mapped:
        return (last[3] if sys.byteorder == "little" else last[0]) == 127
    return address.upper() == "0" * 24 + ("01000000" if sys.byteorder == "little" else "00000001")
