"""The example pictures of the demo, beside this file; `tools/draw_examples.py` writes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from expression.app.page import data_url

__all__ = ["CLIPS", "CREDITS", "DRAWN", "EXAMPLES", "PHOTOS", "Example"]

EXAMPLES = Path(__file__).resolve().parent / "example_pictures"
CREDITS = (
    "In the public domain: Eileen Collins by NASA (it comes with scikit-image), Grace Hopper by "
    "the US Navy (it comes with matplotlib)."
)


@dataclass(frozen=True)
class Example:
    """A picture, or a video with a picture of its own, that the page offers."""

    name: str  # of the file in EXAMPLES
    caption: str
    whole: bool = False  # the picture is one face, cropped already

    @property
    def path(self) -> Path:
        return EXAMPLES / self.name

    def opened(self) -> Image.Image:
        """The picture, mode RGB; of a video, the one that stands for it."""
        shown = self.path.with_suffix(".jpg")
        with Image.open(shown) as picture:
            return picture.convert("RGB")

    def thumbnail(self) -> str:
        """A small picture as a data URL."""
        picture = self.opened()
        picture.thumbnail((200, 200))
        return data_url(picture)


PHOTOS: Sequence[Example] = (
    Example("portrait.jpg", "Eileen Collins"),
    Example("hopper.jpg", "Grace Hopper"),
    Example("group.jpg", "Both in one picture"),
)
DRAWN: Sequence[Example] = tuple(
    Example(f"drawn-{number}.jpg", f"drawn as {expression}", whole=True)
    for number, expression in enumerate(
        ("surprise", "sad", "angry", "neutral", "fear", "happy", "disgust"), 1
    )
)
CLIPS: Sequence[Example] = (Example("clip.mp4", "From one face to the other"),)
