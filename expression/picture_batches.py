"""Many pictures, fast: faces are found in parallel and classified in batches.

As many threads as the machine has cores open pictures and find faces, some pictures each (one
picture is too little work to share out); their faces then go through the network in one batch.
Large pictures are fewer at once: those that wait to be answered take 15 MB for each core.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from PIL import Image

from expression.face_detector import Face, FaceFinder
from expression.face_prediction import FacePrediction
from expression.memory import HeldPictures
from expression.pictures import LONGEST, open_picture
from expression.predictor import ExpressionPredictor

__all__ = ["PictureAnswer", "answer_pictures"]

GROUP, AHEAD = 8, 6  # pictures that go through the networks together; such groups at once
CORES = os.cpu_count() or 1
# Bytes: of a large picture once it is opened; of all opened ones, from which on only the group
# whose turn it is goes on
PICTURE, HELD = 20_000_000, 15_000_000 * max(CORES, 2)


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


@dataclass(frozen=True)
class Group:
    """Pictures that go through the networks together; of large ones the first few `names`."""

    number: int
    names: Sequence[str]


def answer_pictures(
    predictor: ExpressionPredictor,
    names: Sequence[str],
    whole: bool = False,
    allow_private: bool = False,
) -> Iterator[PictureAnswer]:
    """The answers in the order of `names`; at most some dozens of pictures are held at once, and
    fewer large ones.

    `whole`: each picture is one face already. `allow_private`: see `expression.download.fetch`.
    """

    finder = None if whole else predictor.finder  # loaded once, before threads use it
    held = HeldPictures(HELD)

    def search(group: Group) -> list[Searched]:
        return open_and_search(finder, group, held, allow_private)

    starts = range(0, len(names), GROUP)
    rest = iter([Group(k, names[i : i + GROUP]) for k, i in enumerate(starts)])
    with ThreadPoolExecutor(CORES) as pool:
        waiting: deque[tuple[Group, Future[list[Searched]]]] = deque()
        try:
            while True:
                while len(waiting) < AHEAD and (group := next(rest, None)) is not None:
                    waiting.append((group, pool.submit(search, group)))
                if not waiting:
                    return
                group, future = waiting.popleft()
                held.turn(group.number)
                searched = future.result()
                while True:
                    yield from name_faces(predictor, searched, whole)
                    held.add(-bytes_of(searched))
                    group = Group(group.number, group.names[len(searched) :])
                    if not group.names:
                        break
                    del searched  # not held while the rest of the group is opened
                    searched = search(group)
                del searched
        finally:
            for _, future in waiting:
                future.cancel()
            held.turn(len(starts))  # nobody waits any longer


def open_and_search(
    finder: FaceFinder | None, group: Group, held: HeldPictures, allow_private: bool
) -> list[Searched]:
    """Opens pictures and finds their faces, where a finder is given: of a group, or of its first
    few, when these are large."""
    searched: list[Searched] = []
    for name in group.names:
        held.expect(PICTURE, group.number)
        try:
            answer = PictureAnswer(
                name, open_picture(name, longest=LONGEST, allow_private=allow_private)
            )
        except (OSError, ValueError) as error:
            answer = PictureAnswer(name, error=str(error))
        searched.append((answer, []))
        held.add(bytes_of(searched[-1:]) - PICTURE)
        if finder is not None and answer.image is not None:
            searched[-1][1].extend(finder.find(answer.image))
        if bytes_of(searched) > PICTURE / 2:
            break
    return searched


def bytes_of(searched: Sequence[Searched]) -> int:
    """What the pictures take in memory."""
    images = [answer.image for answer, _ in searched if answer.image is not None]
    return sum(image.width * image.height * len(image.getbands()) for image in images)


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
