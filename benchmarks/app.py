"""How fast the commands are as a user meets them: a folder of pictures, and the demo's mirror.

    python -m benchmarks.app --faces path/to/muxspace         → benchmarks/app.json

*Folder*: `predict.py` on 200 pictures of 350 × 350, detection, CSV and drawn pictures included:
the whole command; what each further picture costs (a folder of 400 beside one of 200); and finding
and naming alone, in a process that has started.
*Mirror*: answers a second on the page of the running demo, in a headless Chromium whose camera is
a film of a moving face; and how old an answer is: the time from the face's appearing or
disappearing in the film to the page's saying so. Needs requirements-dev.txt and Chromium.
"""

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import av
import torch
from PIL import Image
from skimage.data import astronaut

from benchmarks import harness
from benchmarks.scenes import read_faces
from benchmarks.subjects import (
    ExpressionPredictor,
    answer_pictures,
)

__all__ = ["launched", "measure_folder", "measure_mirror", "served", "table", "write_film"]

PICTURES = 200
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CAMERA = (
    "--headless --no-sandbox --disable-gpu --use-fake-ui-for-media-stream "
    "--use-fake-device-for-media-stream --use-file-for-fake-video-capture="
).split()
STARTED, FURTHER, WHOLE = "found and named, once started", "each further picture", "whole command"
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


def measure_folder(faces: Path, rounds: int) -> dict[str, Any]:
    """`predict.py` in pictures a second, {what: one figure a round}."""
    with tempfile.TemporaryDirectory() as temporary:
        once, twice = Path(temporary) / "once", Path(temporary) / "twice"
        once.mkdir()
        for i, face in enumerate(read_faces(faces, PICTURES, 0)):
            face.convert("RGB").resize((350, 350)).save(once / f"{i:03}.jpg", quality=92)
        for part in ("a", "b"):
            shutil.copytree(once, twice / part)

        def command(pictures: Path) -> float:
            drawn, rows = Path(temporary) / "drawn", Path(temporary) / "out.csv"
            words = [sys.executable, "predict.py", pictures, "--annotate", drawn, "--csv", rows]
            start = time.perf_counter()
            subprocess.run(words, cwd=harness.ROOT, check=True, capture_output=True)
            return time.perf_counter() - start

        ways = {"twice": lambda: command(twice), "once": lambda: command(once)}
        runs = harness.paired_rounds(ways, rounds, warm_up=0)
        predictor = ExpressionPredictor()
        names = [str(path) for path in sorted(once.iterdir())]
        list(answer_pictures(predictor, names[:16]))
        started = [
            harness.seconds_of(lambda: list(answer_pictures(predictor, names)), torch.device("cpu"))
            for _ in range(rounds)
        ]
    return {
        "checkpoint": predictor.path.stem, "pictures": PICTURES,
        STARTED: [PICTURES / s for s in started],
        FURTHER: [PICTURES / (b - a) for a, b in zip(runs["once"], runs["twice"], strict=True)],
        WHOLE: [PICTURES / s for s in runs["once"]],
    }  # fmt: skip


def write_film(path: Path, seconds: float = 2.0, fps: int = 30, mark: bool = True) -> None:
    """A camera film: a moving face for `seconds`, then none; with a `mark`, white for a face."""
    portrait = Image.fromarray(astronaut()).crop((100, 20, 356, 212)).resize((640, 480))
    ground = Image.new("RGB", (640, 480), (90, 95, 100))
    with av.open(path, "w", format="mjpeg") as film:
        stream = film.add_stream("mjpeg", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuvj420p"
        stream.options = {"qscale": "3"}
        for i in range(round(2 * seconds * fps)):
            frame, face = ground.copy(), i < seconds * fps
            if face:
                frame.paste(portrait, (i % 30, 0))
            if mark:
                frame.paste((255, 255, 255) if face else (0, 0, 0), (0, 0, 64, 48))
            film.mux(stream.encode(av.VideoFrame.from_image(frame).reformat(format="yuvj420p")))
        film.mux(stream.encode())


@contextlib.contextmanager
def served() -> Iterator[str]:
    """The address of a demo that runs as a process of its own."""
    port = harness.free_port()
    address = f"http://127.0.0.1:{port}"
    demo = subprocess.Popen(
        [sys.executable, "demo.py", "--port", str(port)], cwd=harness.ROOT,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
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


def launched(playwright: Any, film: Path) -> Any:
    """A headless browser whose camera plays the film. Raises OSError where none is installed."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise OSError(f"no browser: none of {', '.join(BROWSERS)} is installed")
    return playwright.chromium.launch(
        executable_path=path, args=[*CAMERA[:-1], f"{CAMERA[-1]}{film}"]
    )


def measure_mirror(seconds: float = 20.0) -> dict[str, Any]:
    """Answers a second on the page, and the age of an answer in ms. Raises OSError: no browser."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as temporary, served() as address:
        film = Path(temporary) / "film.mjpeg"
        write_film(film)
        with sync_playwright() as playwright:
            browser = launched(playwright, film)
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
    first = [
        next((told - at for told, now in changes if told > at and now == face), None)
        for at, face in shown[1:-1]
    ]
    ages = [age for age in first if age is not None]
    rate = (len(answers) - 1) / ((answers[-1] - answers[0]) / 1000)
    return {"answers a second": rate, "ages in ms": ages, "seconds": seconds}


def table(told: dict[str, Any]) -> str:
    folder, mirror = told["folder"], told["mirror"]
    pictures = f"`predict.py` on a folder of {folder['pictures']} pictures, 350 × 350"
    rows = [(pictures, what, f"{harness.rates_cell(folder[what])} pictures/s")
            for what in (STARTED, FURTHER, WHOLE)]  # fmt: skip
    ages = mirror["ages in ms"]
    rows += [
        ("`demo.py`, Mirror", "answers a second", f"{mirror['answers a second']:.1f}"),
        ("the same", "age of an answer", f"{median(ages):.0f} ms (longest {max(ages):.0f})"),
    ]
    return harness.markdown_table(("Command", "What", "Median (range of the rounds)"), rows)


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.parser("app", __doc__, rounds=3)
    parser.add_argument("--faces", type=Path, required=True, help="Muxspace: a folder or its tar")
    args = harness.parse(parser, arguments)
    about = harness.record("app", arguments, torch.device("cpu"), ("gradio", "av", "playwright"),
                           rounds=args.rounds)  # fmt: skip
    told = {**about, "folder": measure_folder(args.faces, args.rounds), "mirror": measure_mirror()}
    harness.write_json(args.out, told)
    print(table(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
