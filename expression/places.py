"""Where the faces of two frames are, and which of them belong together by their places."""

import math
from collections.abc import Sequence
from typing import Protocol

from PIL import Image

from expression.faces import Face

__all__ = ["SURE", "best_first", "distance", "is_clear", "near_places"]

SURE = 0.95  # score of a face from which its appearance is learned


class Placed(Protocol):
    """What `near_places` needs of a track."""

    @property
    def face(self) -> Face: ...
    @property
    def last_seen(self) -> float: ...


def is_clear(image: Image.Image, face: Face, others: Sequence[Face]) -> bool:
    """Whether a face is sure, inside the frame but for a tenth, and no other one is close."""
    x, y, width, height = face.box
    across, down = width / 10, height / 10
    inside = x >= -across and x + width <= image.width + across
    inside = inside and y >= -down and y + height <= image.height + down
    return face.score >= SURE and inside and all(distance(face, f) >= 1 for f in others)


def distance(one: Face, other: Face) -> float:
    """Distance of two faces' centres, in units of their mean size."""
    (x, y, w, h), (u, v, p, q) = one.box, other.box
    apart = math.hypot(x + w / 2 - u - p / 2, y + h / 2 - v - q / 2)
    return apart / max((w + h + p + q) / 4, 1)


def near_places(
    faces: Sequence[Face], tracks: Sequence[Placed], seconds: float
) -> list[tuple[float, int, int]]:
    """(distance, index of a face, index of a track) of pairs that may be one by their places.

    A face may be the further away the longer its track was not visible, and must be of similar
    size.
    """
    pairs = []
    for i, face in enumerate(faces):
        for j, track in enumerate(tracks):
            ratio = (face.box[2] * face.box[3]) / max(track.face.box[2] * track.face.box[3], 1)
            reach = 0.6 + min(seconds - track.last_seen, 1.5)
            apart = distance(face, track.face)
            if apart < reach and 1 / 3 < ratio < 3:
                pairs.append((apart, i, j))
    return pairs


def best_first(pairs: Sequence[tuple[float, int, int]]) -> dict[int, int]:
    """{index of a face: index of a track} from (cost, face, track): the lowest costs first."""
    chosen: dict[int, int] = {}
    for _, i, j in sorted(pairs):
        if i not in chosen and j not in chosen.values():
            chosen[i] = j
    return chosen
