"""The page that needs no server: its size, its first answer, and the Mirror's answers a second.

    make web && python -m benchmarks.page                      → benchmarks/page.json

The page of web/dist is served on this machine, to a headless Chromium whose camera plays a film of
a moving face. *First answer*: from opening the page, without a cache, with a photo given at once,
to the name on the screen. *Mirror*: answers to frames of 640 × 480, each with its face found or
followed. Figures only mean something on a machine that is idle otherwise.
"""

import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image
from skimage.data import astronaut

from benchmarks import harness
from benchmarks.app import launched, write_film

__all__ = ["PAGE", "hosted", "measure", "table"]

PAGE = harness.ROOT / "web" / "dist"
MIRROR_SECONDS = 10
# When the first answer stood on the page, in milliseconds after it was opened
SHOWN = """new MutationObserver(() => {
    if (document.querySelector('.card .word')) window.shown ??= performance.now();
}).observe(document, { subtree: true, childList: true });"""
# The time of every answer that has a face
WATCH = """async () => {
    const { engine } = await import('./engine.js');
    await engine.ready;
    const ask = engine.ask.bind(engine);
    window.answers = [];
    engine.ask = async (...given) => {
        const answer = await ask(...given);
        if (given[0] === 'frame' && answer.faces?.length) window.answers.push(performance.now());
        return answer;
    }; }"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *words: Any) -> None:
        """Nothing: requests are no news."""


@contextmanager
def hosted(folder: Path = PAGE) -> Iterator[str]:
    """The address of a folder, served as a static host would. Raises FileNotFoundError: no page."""
    if not (folder / "index.html").is_file():
        raise FileNotFoundError(f"there is no page in {folder}; build it with make web")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def first_answer(browser: Any, address: str, photo: Path) -> float:
    """Seconds from opening the page to the answer on it."""
    with browser.new_context() as context:
        page = context.new_page()
        page.add_init_script(SHOWN)
        page.goto(address, wait_until="domcontentloaded")
        page.locator("#file").set_input_files(photo)
        page.locator(".card .word").wait_for(timeout=60_000)
        return page.evaluate("window.shown") / 1000


def answers_a_second(browser: Any, address: str, seconds: float = MIRROR_SECONDS) -> float:
    with browser.new_context(permissions=["camera"]) as context:
        page = context.new_page()
        page.goto(address)
        page.evaluate(WATCH)
        page.get_by_role("button", name="Start the camera").click()
        page.locator("#mirror .word").wait_for()
        time.sleep(2)
        first = len(page.evaluate("window.answers"))
        time.sleep(seconds)
        times = page.evaluate("window.answers")[first:]
    return (len(times) - 1) / ((times[-1] - times[0]) / 1000)


def measure(rounds: int) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as temporary, hosted() as address:
        film, photo = Path(temporary) / "film.mjpeg", Path(temporary) / "photo.jpg"
        write_film(film, seconds=30, mark=False)
        Image.fromarray(astronaut()).crop((60, 0, 410, 350)).save(photo, quality=95)
        with sync_playwright() as playwright:
            browser = launched(playwright, film)
            told: dict[str, Any] = {
                "bytes": sum(path.stat().st_size for path in PAGE.iterdir()),
                "first answer": [first_answer(browser, address, photo) for _ in range(rounds)],
                "answers a second": [answers_a_second(browser, address) for _ in range(rounds)],
                "browser": browser.version,
            }
            browser.close()
    return told


def table(told: dict[str, Any]) -> str:
    first, rate = told["first answer"], told["answers a second"]
    rows = [
        ("everything on the page (MB)", f"{told['bytes'] / 1e6:.1f}"),
        ("first answer after opening (s)",
         f"{median(first):.1f} ({min(first):.1f}–{max(first):.1f})"),
        ("Mirror, answers a second", f"{median(rate):.1f} ({min(rate):.1f}–{max(rate):.1f})"),
    ]  # fmt: skip
    return harness.markdown_table(("Page", "Median (range of the rounds)"), rows)


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.parser("page", __doc__, rounds=3)
    args = harness.parse(parser, arguments)
    about = harness.record("page", arguments, torch.device("cpu"), ("playwright", "pillow"),
                           rounds=args.rounds)  # fmt: skip
    told = {**about, **measure(args.rounds)}
    harness.write_json(args.out, told)
    print(table(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
