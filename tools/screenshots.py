"""Take the README's pictures: docs/photo.png and video.png, and page.gif of the page.

The faces are portraits of Eileen Collins by NASA and of Grace Hopper by the US Navy, both in the
public domain. docs/pictures.json says which network they show; a test compares it with the one that
is served. Needs requirements-dev.txt, Chromium (with an emoji font), and `make web` before.

    python -m tools.screenshots
"""

import io
import json
import tempfile
import time
from pathlib import Path

import av
from PIL import Image, ImageEnhance
from playwright.sync_api import Browser, Page, sync_playwright
from skimage.data import astronaut

from benchmarks.app import launched, served
from benchmarks.page import hosted
from expression.checkpoint import CHECKPOINTS
from expression.face_detector import FaceFinder
from expression.terminal import escape_unprintable
from lab.results import file_sha256
from tools.draw_examples import clip_frames

__all__ = ["DOCS", "NETWORK", "RECORD"]

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NETWORK = CHECKPOINTS / "expression.safetensors"  # what the demo and the page serve
RECORD = DOCS / "pictures.json"
GIF_SECONDS, GIF_RATE, GIF_SIZE = 7, 6, (960, 700)  # seconds, pictures a second, pixels of the page
GIF_WIDTH = 640


def write_clip(path: Path, seconds: int = 8, fps: int = 15) -> None:
    """A clip that moves over the portrait, grows dark, and covers the mouth for a while."""
    portrait = Image.fromarray(astronaut())
    x, y, width, height = FaceFinder().find(portrait)[0].box
    with av.open(path, "w") as clip:
        stream = clip.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for i in range(seconds * fps):
            part = i / (seconds * fps)
            frame = portrait.copy()
            if 0.4 < part < 0.65:  # the mouth
                frame.paste((205, 165, 145), (x, y + round(0.62 * height), x + width, y + height))
            left = round(60 * part)
            frame = frame.crop((left, 0, left + 400, 300)).resize((640, 480))
            frame = ImageEnhance.Brightness(frame).enhance(1 - 0.5 * max(part - 0.75, 0))
            clip.mux(stream.encode(av.VideoFrame.from_image(frame)))
        clip.mux(stream.encode())


def photo(page: Page) -> None:
    page.locator("[data-example='portrait.jpg']").click()
    page.get_by_label("show where it looks").check()
    page.locator(".face").first.wait_for(timeout=60_000)
    page.get_by_text("Where the network looks").wait_for(timeout=60_000)


def video(page: Page, clip: Path) -> None:
    page.get_by_role("tab", name="Video").click()
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(clip)
    time.sleep(3)
    page.get_by_role("button", name="Follow the faces").click()
    page.get_by_text("followed through").wait_for(timeout=180_000)


# --- the page that needs no server ---


def write_camera(path: Path) -> None:
    """The examples' clip as a camera's film of 30 frames a second: to the other face and back."""
    frames = [image.resize((640, 480)) for _, image in clip_frames() for _ in range(3)]
    with av.open(path, "w", format="mjpeg") as film:
        stream = film.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuvj420p"
        for frame in [*frames, *reversed(frames)]:
            film.mux(stream.encode(av.VideoFrame.from_image(frame).reformat(format="yuvj420p")))
        film.mux(stream.encode())


def page_gif(browser: Browser, address: str) -> list[Image.Image]:
    """Pictures of the page's Mirror, GIF_RATE of them a second."""
    width, height = GIF_SIZE
    context = browser.new_context(
        viewport={"width": width, "height": height}, permissions=["camera"]
    )
    page = context.new_page()
    page.goto(address)
    page.get_by_role("button", name="Start the camera").click()
    for word in ("neutral", "happy"):  # the clip turns back to the first face
        page.locator("#mirror .word", has_text=word).wait_for(timeout=60_000)
    pictures, start = [], time.monotonic()
    for k in range(GIF_SECONDS * GIF_RATE):
        time.sleep(max(0, start + k / GIF_RATE - time.monotonic()))
        shot = Image.open(io.BytesIO(page.screenshot()))
        pictures.append(shot.convert("RGB").resize((GIF_WIDTH, GIF_WIDTH * height // width)))
    context.close()
    return pictures


def write_gif(path: Path, pictures: list[Image.Image]) -> None:
    """One palette for all, so that nothing flickers."""
    palette = pictures[len(pictures) // 2].quantize(128)
    first, *rest = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in pictures]
    first.save(
        path, save_all=True, append_images=rest, duration=1000 // GIF_RATE, loop=0, optimize=True
    )


# --- all of them ---


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as play:
        film, clip = Path(temporary) / "film.mjpeg", Path(temporary) / "portrait.mp4"
        write_camera(film)
        write_clip(clip)
        browser = launched(play, film)
        with hosted() as address:
            write_gif(DOCS / "page.gif", page_gif(browser, address))
        shots = {
            "photo": (photo, 1060),
            "video": (lambda p: video(p, clip), 1560),
        }
        with served() as address:
            for name, (act, height) in shots.items():
                page = browser.new_context(
                    viewport={"width": 1160, "height": height}, permissions=["camera"]
                ).new_page()
                page.goto(address)
                act(page)
                time.sleep(3)
                page.screenshot(path=DOCS / f"{name}.png")
                page.close()
    shown = {"network": NETWORK.stem, "sha256": file_sha256(NETWORK)}
    RECORD.write_text(json.dumps(shown, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    escape_unprintable()
    main()
