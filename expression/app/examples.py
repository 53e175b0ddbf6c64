"""The example pictures of the demo, beside this file; `tools/draw_examples.py` writes them."""

from pathlib import Path

from PIL import Image

__all__ = ["EXAMPLES", "drawn_faces", "portrait"]

EXAMPLES = Path(__file__).resolve().parent / "example_pictures"


def portrait() -> list[list[Image.Image]]:
    """A photo in the public domain (NASA)."""
    return [[opened(EXAMPLES / "portrait.jpg")]]


def drawn_faces() -> list[list[Image.Image]]:
    """Faces that the project draws itself, so that no person's picture is shipped."""
    return [[opened(path)] for path in sorted(EXAMPLES.glob("drawn-*.jpg"))]


def opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")
