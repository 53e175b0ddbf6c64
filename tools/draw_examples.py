"""Write the demo's examples, so that it needs no scikit-image, matplotlib or laboratory.

The photos are in the public domain, and two packages carry them: Eileen Collins by NASA
(scikit-image), Grace Hopper by James S. Davis for the US Navy (matplotlib). The group photo puts
both side by side, and the clip moves over it. The faces are drawn by `lab.datasets.synthetic`, so
that no further person's picture is shipped.

    python -m tools.draw_examples
"""

from collections.abc import Iterator
from pathlib import Path

from matplotlib.cbook import get_sample_data
from PIL import Image
from skimage.data import astronaut

from expression.app.examples import EXAMPLES
from expression.terminal import escape_unprintable
from expression.video import VideoWriter
from lab.datasets import synthetic

__all__ = ["clip_frames", "drawn_faces", "example_pictures"]

FACES, SIDE = 7, 224
LEFT, RIGHT = (56, 0, 392, 448), (70, 40, 460, 560)  # of the portraits, in the group photo
HALF = 390, 520  # pixels of each in it
CLIP, SECONDS, RATE = (480, 360), 6, 10  # pixels, length, frames a second


def hopper() -> Image.Image:
    """Official portrait of Grace Hopper, 512 × 600 or so."""
    with get_sample_data("grace_hopper.jpg") as file, Image.open(file) as picture:
        return picture.convert("RGB")


def group() -> Image.Image:
    """Both portraits side by side."""
    halves = Image.fromarray(astronaut()).crop(LEFT), hopper().crop(RIGHT)
    picture = Image.new("RGB", (2 * HALF[0], HALF[1]))
    for place, half in enumerate(halves):
        picture.paste(half.resize(HALF, Image.Resampling.BICUBIC), (place * HALF[0], 0))
    return picture


def clip_frames() -> Iterator[tuple[float, Image.Image]]:
    """(seconds, frame): the camera moves from one face to the other, resting at both ends."""
    picture, count = group(), SECONDS * RATE
    for number in range(count):
        part = min(max(1.5 * number / (count - 1) - 0.25, 0), 1)  # rests at first and at last
        left = round((picture.width - CLIP[0]) * part)
        yield number / RATE, picture.crop((left, 0, left + CLIP[0], CLIP[1]))


def drawn_faces() -> Iterator[tuple[str, Image.Image]]:
    """(expression, face), one of each class."""
    splits = synthetic.load(train=1, validation=1, test=FACES, seed=7, size=SIDE, label_noise=0.0)
    names = splits["test"].features["label"].names
    for row in splits["test"]:
        yield names[row["label"]], row["image"].convert("RGB")


def example_pictures() -> Iterator[tuple[str, Image.Image]]:
    """(file name, picture) of every example; a video's picture has its name."""
    yield "portrait.jpg", Image.fromarray(astronaut())
    yield "hopper.jpg", hopper()
    yield "group.jpg", group()
    yield "clip.jpg", next(clip_frames())[1]
    for number, (_, face) in enumerate(drawn_faces(), 1):
        yield f"drawn-{number}.jpg", face


def main(folder: Path = EXAMPLES) -> None:
    escape_unprintable()
    folder.mkdir(exist_ok=True)
    for name, picture in example_pictures():
        picture.save(folder / name, quality=90, optimize=True)
        print(f"wrote {folder / name}")
    with VideoWriter(folder / "clip.mp4") as clip:
        for seconds, frame in clip_frames():
            clip.write(frame, seconds)
    print(f"wrote {folder / 'clip.mp4'}")


if __name__ == "__main__":
    main()
