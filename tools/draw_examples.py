"""Write the demo's example pictures, so that it needs neither scikit-image nor the laboratory.

The photo is NASA's portrait of Eileen Collins, in the public domain, which comes with scikit-image.
The faces are drawn by `lab.datasets.synthetic`, so that no person's picture is shipped.

    python -m tools.draw_examples
"""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from skimage.data import astronaut

from expression.app.examples import EXAMPLES
from expression.terminal import escape_unprintable
from lab.datasets import synthetic

__all__ = ["example_pictures"]

FACES, SIDE = 7, 224


def example_pictures() -> Iterator[tuple[str, Image.Image]]:
    """(file name, picture) of every example."""
    yield "portrait.jpg", Image.fromarray(astronaut())
    splits = synthetic.load(train=1, validation=1, test=FACES, seed=7, size=SIDE, label_noise=0.0)
    for number, face in enumerate(splits["test"]["image"], 1):
        yield f"drawn-{number}.jpg", face.convert("RGB")


def main(folder: Path = EXAMPLES) -> None:
    escape_unprintable()
    folder.mkdir(exist_ok=True)
    for name, picture in example_pictures():
        picture.save(folder / name, quality=90, optimize=True)
        print(f"wrote {folder / name}")


if __name__ == "__main__":
    main()
