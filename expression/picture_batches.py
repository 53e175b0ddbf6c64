"""Many pictures, fast: faces are found in parallel and classified in batches.

As many threads as the machine has cores open pictures and find faces, some pictures each (one
picture is too little work to share out); their faces then go through the network in one batch.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from PIL import Image

from expression.face_detector import Face, FaceFinder
from expression.face_prediction import FacePrediction
from expression.pictures import LONGEST, open_picture
from expression.predictor import ExpressionPredictor

__all__ = ["PictureAnswer", "answer_pictures"]

GROUP, AHEAD = 8, 6  # pictures that go through the networks together; such groups at once


@dataclass
class PictureAnswer:
    """A picture with its faces, or the error that came instead."""

    name: str
    image: Image.Image | None = None
    faces: list[FacePrediction] = field(default_factory=list)
    error: str = ""

    def opened(self) -> Image.Image:
        """The picture. Raises ValueError, with the reason, where it could not be opened."""
        if self.image is None:
            raise ValueError(self.error)
        return self.image


Searched = tuple[PictureAnswer, list[Face]]


def answer_pictures(
    predictor: ExpressionPredictor,
    names: Sequence[str],
    whole: bool = False,
    allow_private: bool = False,
) -> Iterator[PictureAnswer]:
    """The answers in the order of `names`; at most some dozens of pictures are held at once.

    `whole`: each picture is one face already. `allow_private`: see `expression.download.fetch`.
    """

    finder = None if whole else predictor.finder  # loaded once, before threads use it

    def search(group: Sequence[str]) -> list[Searched]:
        return open_and_search(finder, group, allow_private)

    groups = [names[i : i + GROUP] for i in range(0, len(names), GROUP)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        waiting: deque[Future[list[Searched]]] = deque()
        rest = iter(groups)
        try:
            while True:
                while len(waiting) < AHEAD and (group := next(rest, None)) is not None:
                    waiting.append(pool.submit(search, group))
                if not waiting:
                    return
                yield from name_faces(predictor, waiting.popleft().result(), whole)
        finally:
            for future in waiting:
                future.cancel()


def open_and_search(
    finder: FaceFinder | None, names: Sequence[str], allow_private: bool
) -> list[Searched]:
    """Opens some pictures and finds their faces, where a finder is given."""
    searched: list[Searched] = []
    for name in names:
        try:
            image = open_picture(name, longest=LONGEST, allow_private=allow_private)
        except (OSError, ValueError) as error:
            searched.append((PictureAnswer(name, error=str(error)), []))
        else:
            searched.append((PictureAnswer(name, image), finder.find(image) if finder else []))
    return searched


def name_faces(
    predictor: ExpressionPredictor, searched: Sequence[Searched], whole: bool
) -> list[PictureAnswer]:
    """Classifies all faces of some pictures in one batch."""
    good = [(answer, faces) for answer, faces in searched if answer.image is not None]
    images = [answer.opened() for answer, _ in good]
    if whole:
        predictions = [[face] for face in predictor.predict_whole(images)]
    else:
        predictions = predictor.predict_faces(images, [faces for _, faces in good])
    for (answer, _), found in zip(good, predictions, strict=True):
        answer.faces = found
    return [answer for answer, _ in searched]
