"""How fast the front doors are, as a user meets them: a folder of pictures, and the mirror.

    python benchmarks/app.py --faces path/to/muxspace [--out benchmarks/app.json]

*Folder*: `predict.py` on 200 pictures of 350 × 350, detection, CSV and drawn pictures included:
the whole command; what each further picture costs (a folder of 400 beside one of 200); and the
finding and naming alone, in a process that has started.
*Mirror*: answers a second that reach the page of the running demo, in a headless Chromium whose
camera is a film of a moving face, and how old they are: the film's face comes and goes, and the
time from its going to the page's saying so is taken. Needs requirements-dev.txt and Chromium.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, from any folder

import av
import torch
from PIL import Image
from skimage.data import astronaut

from benchmarks.scenes import read_faces
from benchmarks.serving import processor
from expression import predictor as predict
from expression.commands import answer_pictures

__all__ = ["measure_folder", "measure_mirror"]

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CAMERA = (
    "--headless --no-sandbox --disable-gpu --use-fake-ui-for-media-stream "
    "--use-fake-device-for-media-stream --use-file-for-fake-video-capture="
).split()
WATCH = """() => {
  window.answers = []; window.changes = [];
  new MutationObserver(() => {
    const mirror = document.querySelector('.mirror');
    if (!mirror) return;
    window.answers.push(performance.now());
    const now = mirror.dataset.expression !== '';
    if (window.changes.at(-1)?.[1] !== now) window.changes.push([performance.now(), now]);
  }).observe(document.body, {subtree: true, childList: true, attributes: true});
  const video = [...document.querySelectorAll('video')].find(v => v.videoWidth);
  const canvas = document.createElement('canvas'); canvas.width = canvas.height = 8;
  const pen = canvas.getContext('2d', {willReadFrequently: true});
  window.shown = [];
  setInterval(() => {
    pen.drawImage(video, 0, 0, 64, 48, 0, 0, 8, 8);
    const white = pen.getImageData(2, 2, 1, 1).data[0] > 128;
    if (window.shown.at(-1)?.[1] !== white) window.shown.push([performance.now(), white]);
  }, 5);
}"""


def measure_folder(where: Path, runs: int = 3) -> dict[str, Any]:
    """200 pictures through `predict.py`, in pictures a second: median and spread of `runs`."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "pictures"
        folder.mkdir()
        for i, face in enumerate(read_faces(where, 200, 0)):
            face.convert("RGB").resize((350, 350)).save(folder / f"{i:03}.jpg", quality=92)
        double = Path(temporary) / "double"
        for part in ("a", "b"):
            shutil.copytree(folder, double / part)
        rows: dict[str, list[float]] = {}

        def seconds(pictures: Path) -> float:
            begin = time.perf_counter()
            subprocess.run(
                [sys.executable, "predict.py", pictures, "--annotate", Path(temporary) / "out",
                 "--csv", Path(temporary) / "out.csv"],
                cwd=ROOT, check=True, capture_output=True,
            )  # fmt: skip
            return time.perf_counter() - begin

        for _ in range(runs):
            twice, once = seconds(double), seconds(folder)
            rows.setdefault("whole command", []).append(200 / once)
            rows.setdefault("each further picture", []).append(200 / (twice - once))
        told = (Path(temporary) / "out.csv").read_text(encoding="utf-8").splitlines()[1:]
        found = len({row.split(",")[0] for row in told if row.split(",")[1] != "0"})
        predictor = predict.ExpressionPredictor()
        names = [str(path) for path in sorted(folder.iterdir())]
        list(answer_pictures(predictor, names[:16]))
        for _ in range(runs):
            begin = time.perf_counter()
            list(answer_pictures(predictor, names))
            rate = 200 / (time.perf_counter() - begin)
            rows.setdefault("found and named, once started", []).append(rate)
    told = {name: {"median": median(v), "runs": v} for name, v in rows.items()}
    return {"checkpoint": predictor.path.stem, "pictures": 200, "with a face": found, **told}


def write_film(path: Path, seconds: float = 2.0, fps: int = 30, mark: bool = True) -> None:
    """A camera film: a moving face for `seconds`, then none; with a `mark`, white for a face."""
    portrait = Image.fromarray(astronaut()).crop((100, 20, 356, 212)).resize((640, 480))
    ground = Image.new("RGB", (640, 480), (90, 95, 100))
    with av.open(path, "w", format="mjpeg") as film:
        stream = film.add_stream("mjpeg", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuvj420p"
        stream.options = {"qscale": "3"}
        for i in range(round(2 * seconds * fps)):
            frame = ground.copy()
            if i < seconds * fps:
                frame.paste(portrait, (i % 30, 0))
            if mark:
                frame.paste((255,) * 3 if i < seconds * fps else (0,) * 3, (0, 0, 64, 48))
            film.mux(stream.encode(av.VideoFrame.from_image(frame).reformat(format="yuvj420p")))
        film.mux(stream.encode())


@contextlib.contextmanager
def served() -> Iterator[str]:
    """The address of a demo that runs as a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    demo = subprocess.Popen(
        [sys.executable, "demo.py", "--port", str(port)], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(240):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(address, timeout=5).read()
                break
            time.sleep(0.5)
        yield address
    finally:
        demo.terminate()
        demo.wait(20)


def measure_mirror(seconds: float = 20.0) -> dict[str, Any]:
    """Answers a second on the page, and the median age of an answer in ms."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise OSError(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with tempfile.TemporaryDirectory() as temporary, served() as address:
        film = Path(temporary) / "film.mjpeg"
        write_film(film)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=path, args=[*CAMERA[:-1], f"{CAMERA[-1]}{film}"]
            )
            page = browser.new_context(permissions=["camera"]).new_page()
            page.goto(address)
            page.get_by_role("tab", name="Mirror").click()
            page.get_by_text("Click to Access Webcam").first.click()
            page.get_by_label("capture photo").locator("visible=true").first.click()
            page.locator(".mirror").wait_for(timeout=60_000)
            time.sleep(3)
            page.evaluate(WATCH)
            time.sleep(seconds)
            answers, shown, changes = (
                page.evaluate(f"window.{name}") for name in ("answers", "shown", "changes")
            )
            browser.close()
    ages = [
        next((told - at for told, now in changes if told > at and now == face), None)
        for at, face in shown[1:-1]
    ]
    rate = (len(answers) - 1) / ((answers[-1] - answers[0]) / 1000)
    known = sorted(age for age in ages if age is not None)
    return {"answers a second": rate, "age in ms": median(known), "longest age in ms": known[-1],
            "changes seen": len(known), "seconds": seconds}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast the front doors are.")
    parser.add_argument("--faces", type=Path, required=True, help="Muxspace, a folder or its tar")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    told = {
        "folder": measure_folder(args.faces),
        "mirror": measure_mirror(),
        "date": date.today().isoformat(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    args.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    table = io.StringIO()
    for name, row in told["folder"].items():
        if not isinstance(row, dict):
            continue
        spread = f"{min(row['runs']):.0f}–{max(row['runs']):.0f}"
        print(f"| folder, {name} | {row['median']:.0f} pictures/s ({spread}) |", file=table)
    mirror = told["mirror"]
    print(f"| mirror | {mirror['answers a second']:.1f} answers/s |", file=table)
    print(f"| age of an answer | {mirror['age in ms']:.0f} ms |", file=table)
    print(f"| | |\n|---|---|\n{table.getvalue()}wrote {args.out}")


if __name__ == "__main__":
    main()
