"""Follow every face of a video or a webcam, and smooth what its expression is over time.

Why: a detector that looks at each frame anew costs ten times as much, and a network that
answers each frame anew flickers. Here the whole frame is searched twice a second; between,
the detector's last network looks only where the faces were. Probabilities are averaged
over time, so that a number on the screen can be read.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from expression.face_detector import CropRule, Face, FaceFinder
from expression.face_prediction import FacePrediction, ranked

__all__ = ["Tracker"]


@dataclass
class Track:
    """One person's face through time."""

    number: int
    face: Face
    seen: float  # seconds, when last
    probs: np.ndarray | None = None  # (num_classes,), smoothed
    here: bool = True  # in the last frame
    missed: int = 0  # searches in a row that did not find it


class Tracker:
    """Call it with each frame and its time in seconds: the faces in it, with steady numbers.

    `classify` maps face crops to probabilities (N, num_classes). `every` is the time
    between two searches of the whole frame, `memory` how long a face may be gone and still
    be the same one, `smooth` the time constant of the average, all in seconds. It keeps
    only the faces of the last `memory` seconds, however long the video is.
    """

    def __init__(
        self,
        finder: FaceFinder,
        crop: CropRule,
        classify: Callable[[Sequence[Image.Image]], np.ndarray],
        class_names: Sequence[str],
        every: float = 0.5,
        memory: float = 2.0,
        smooth: float = 0.3,
    ) -> None:
        self.finder, self.crop, self.classify = finder, crop, classify
        self.class_names = tuple(class_names)
        self.every, self.memory, self.smooth = every, memory, smooth
        self.tracks: list[Track] = []
        self.searched = self.time = -math.inf  # of the last search, of the last frame
        self.count = 0

    def __call__(self, image: Image.Image, seconds: float) -> list[FacePrediction]:
        """Faces of this frame, the largest first. Time must not run backwards: then it restarts."""
        if seconds < self.time:
            self.tracks, self.searched = [], -math.inf
        self.time = seconds
        self.locate(image, seconds)
        here = [track for track in self.tracks if track.here]
        if not here:
            return []
        crops = [self.crop(image, track.face.box, track.face.tilt) for track in here]
        for track, probs in zip(here, self.classify(crops), strict=True):
            gap = seconds - track.seen
            new = 1.0 if track.probs is None else 1 - math.exp(-max(gap, 1e-3) / self.smooth)
            track.probs = (
                probs if track.probs is None else track.probs + new * (probs - track.probs)
            )
            track.seen = seconds
        here.sort(key=lambda t: -t.face.box[2] * t.face.box[3])
        return [
            FacePrediction(
                t.face.box, ranked(t.probs, self.class_names), t.face.score, t.face.tilt, t.number
            )
            for t in here
            if t.probs is not None
        ]

    def locate(self, image: Image.Image, seconds: float) -> None:
        """Say of each track where it is in this frame, or that it is not there."""
        self.tracks = [t for t in self.tracks if seconds - t.seen <= self.memory]
        held = [t for t in self.tracks if t.here]
        moved = self.finder.follow(image, [t.face for t in held])
        for track, face in zip(held, moved, strict=True):
            track.here = face is not None
            track.face = face or track.face
        lost = any(not t.here for t in held)
        due = self.every if held else self.every / 3  # an empty frame is searched more often
        if not lost and seconds - self.searched < due:
            return
        self.searched = seconds
        found = self.finder.find_batch([image])[0]
        pairs = matched(found, self.tracks, seconds)
        for track in self.tracks:  # held by the last network alone: twice is an accident
            track.missed += 1
            track.here = track.here and track.missed < 3
        for i, face in enumerate(found):
            if i in pairs:
                pairs[i].face, pairs[i].here, pairs[i].missed = face, True, 0
            else:
                self.count += 1
                self.tracks.append(Track(self.count, face, seconds))
        self.tracks = without_doubles(self.tracks)


def without_doubles(tracks: list[Track]) -> list[Track]:
    """Two tracks that came to lie on one face: the older one stays."""
    kept: list[Track] = []
    for track in tracks:
        if not track.here or all(distance(track.face, t.face) > 0.3 for t in kept if t.here):
            kept.append(track)
    return kept


def distance(one: Face, other: Face) -> float:
    """Between two faces' centres, in face sizes."""
    (x, y, w, h), (u, v, p, q) = one.box, other.box
    apart = math.hypot(x + w / 2 - u - p / 2, y + h / 2 - v - q / 2)
    return apart / max((w + h + p + q) / 4, 1)


def matched(faces: Sequence[Face], tracks: Sequence[Track], seconds: float) -> dict[int, Track]:
    """{face's index: its track}, the nearest pairs first, so that no newcomer takes a number.

    Near enough means: more so the longer the track was gone; and of its size.
    """
    pairs = []
    for i, face in enumerate(faces):
        for j, track in enumerate(tracks):
            ratio = (face.box[2] * face.box[3]) / max(track.face.box[2] * track.face.box[3], 1)
            reach = 0.6 + min(seconds - track.seen, 1.5)
            apart = distance(face, track.face)
            if apart < reach and 1 / 3 < ratio < 3:
                pairs.append((apart, i, j))
    chosen: dict[int, int] = {}
    for _, i, j in sorted(pairs):
        if i not in chosen and j not in chosen.values():
            chosen[i] = j
    return {i: tracks[j] for i, j in chosen.items()}
