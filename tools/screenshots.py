"""Take the README's screenshots of the demo: docs/photo.png, docs/mirror.png, docs/video.png.

The face is a portrait of Eileen Collins by NASA, in the public domain, that comes with
scikit-image. Needs requirements-dev.txt and Chromium (with an emoji font).

    python -m tools.screenshots
"""

import shutil
import tempfile
import time
from pathlib import Path

import av
from PIL import Image, ImageEnhance
from playwright.sync_api import Page, sync_playwright
from skimage.data import astronaut

from benchmarks.app import BROWSERS, CAMERA, served, write_film
from expression.face_detector import FaceFinder
from expression.terminal import escape_unprintable

DOCS = Path(__file__).resolve().parents[1] / "docs"


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


def mirror(page: Page) -> None:
    page.get_by_role("tab", name="Mirror").click()
    page.get_by_text("Click to Access Webcam").first.click()
    page.get_by_label("capture photo").locator("visible=true").first.click()
    page.locator(".mirror[data-expression='happy']").wait_for(timeout=60_000)


def video(page: Page, clip: Path) -> None:
    page.get_by_role("tab", name="Video").click()
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(clip)
    time.sleep(3)
    page.get_by_role("button", name="Follow the faces").click()
    page.get_by_text("followed through").wait_for(timeout=180_000)


def main() -> None:
    browser_path = next(filter(None, map(shutil.which, BROWSERS)))
    with tempfile.TemporaryDirectory() as temporary, served() as address, sync_playwright() as play:
        film, clip = Path(temporary) / "film.mjpeg", Path(temporary) / "portrait.mp4"
        write_film(film, seconds=20, mark=False)
        write_clip(clip)
        browser = play.chromium.launch(
            executable_path=browser_path, args=[*CAMERA[:-1], f"{CAMERA[-1]}{film}"]
        )
        shots = {
            "photo": (photo, 1060),
            "mirror": (mirror, 760),
            "video": (lambda p: video(p, clip), 1080),
        }
        for name, (act, height) in shots.items():
            page = browser.new_context(
                viewport={"width": 1160, "height": height}, permissions=["camera"]
            ).new_page()
            page.goto(address)
            act(page)
            time.sleep(3)
            page.screenshot(path=DOCS / f"{name}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    escape_unprintable()
    main()
