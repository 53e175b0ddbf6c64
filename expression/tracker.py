"""Follow every face of a video or a webcam, and smooth what its expression is over time.

Why: searching the whole of each frame costs ten times as much, and answers that differ from frame
to frame flicker. Here the whole frame is searched twice a second; in between, the detector's last
network looks only where the faces were. Probabilities are averaged over time, so that they can be
read on a screen.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from expression.face_detector import CropRule, Face, FaceFinder
from expression.face_prediction import FacePrediction, check_min_confidence, enlarged, ranked
from expression.pictures import Picture, as_picture, reduced

__all__ = ["Tracker"]


@dataclass
class Track:
    """One person's face through time."""

    number: int
    face: Face
    last_seen: float  # seconds
    probs: np.ndarray | None = None  # (num_classes,), smoothed
    visible: bool = True  # in the last frame
    missed: int = 0  # searches of the whole frame in a row that did not find it


class Tracker:
    """Call it with each frame and its time in seconds: gives the faces, with their track numbers.

    `classify` maps face crops to probabilities (N, num_classes). `every` is the time between two
    searches of the whole frame, `memory` how long a face may be missing and keep its number,
    `smooth` the time constant of the average, all in seconds. A face is "not sure" while its
    averaged probabilities stay below `min_confidence`. Only the faces of the last `memory`
    seconds are kept, however long the video is.
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
        min_confidence: float = 0.0,
        open_frame: Callable[[Picture], Image.Image] = as_picture,
    ) -> None:
        self.finder, self.crop, self.classify = finder, crop, classify
        self.class_names = tuple(class_names)
        self.every, self.memory, self.smooth = every, memory, smooth
        self.min_confidence = check_min_confidence(min_confidence)
        self.open_frame = open_frame
        self.tracks: list[Track] = []
        self.searched = self.time = -math.inf  # of the last search, of the last frame
        self.count = 0

    def __call__(self, frame: Picture, seconds: float) -> list[FacePrediction]:
        """Faces of this frame, the largest first. A time before the last one starts anew.

        `frame` is a PIL picture, an OpenCV array or whatever else `open_picture` takes; boxes are
        in its pixels. Raises ValueError for what is no picture or no time.
        """
        if not isinstance(seconds, int | float | np.number) or not math.isfinite(seconds):
            raise ValueError(f"seconds is {seconds!r}; give the frame's time in the video")
        image = self.open_frame(frame)
        times = reduced(image)
        if seconds < self.time:
            self.tracks, self.searched = [], -math.inf
        self.time = seconds
        self.locate(image, seconds)
        visible = [track for track in self.tracks if track.visible]
        if not visible:
            return []
        crops = [self.crop(image, track.face.box, track.face.tilt) for track in visible]
        for track, probs in zip(visible, self.classify(crops), strict=True):
            if track.probs is None:
                track.probs = probs
            else:
                gap = max(seconds - track.last_seen, 1e-3)
                new = 1 - math.exp(-gap / self.smooth)
                track.probs = track.probs + new * (probs - track.probs)
            track.last_seen = seconds
        visible.sort(key=lambda t: -t.face.box[2] * t.face.box[3])
        return [
            enlarged(
                FacePrediction(
                    t.face.box,
                    ranked(t.probs, self.class_names),
                    t.face.score,
                    t.face.tilt,
                    t.number,
                    self.min_confidence,
                ),
                times,
            )
            for t in visible
            if t.probs is not None
        ]

    def locate(self, image: Image.Image, seconds: float) -> None:
        """Update each track: where it is in this frame, or that it is not visible."""
        self.tracks = [t for t in self.tracks if seconds - t.last_seen <= self.memory]
        before = [t for t in self.tracks if t.visible]
        moved = self.finder.follow(image, [t.face for t in before])
        for track, face in zip(before, moved, strict=True):
            track.visible = face is not None
            track.face = face or track.face
        lost = any(not t.visible for t in before)
        due = self.every if before else self.every / 3  # an empty frame is searched more often
        if not lost and seconds - self.searched < due:
            return
        self.searched = seconds
        found = self.finder.find_batch([image])[0]
        pairs = matched(found, self.tracks, seconds)
        for track in self.tracks:
            track.missed += 1
            # Two searches in a row may miss a face that the last network still follows; after the
            # third, the track is dropped: the network follows something that is no face.
            track.visible = track.visible and track.missed < 3
        for i, face in enumerate(found):
            if i in pairs:
                pairs[i].face, pairs[i].visible, pairs[i].missed = face, True, 0
            else:
                self.count += 1
                self.tracks.append(Track(self.count, face, seconds))
        self.tracks = without_doubles(self.tracks)


def without_doubles(tracks: list[Track]) -> list[Track]:
    """The tracks, without those that follow the same face as an older one."""
    kept: list[Track] = []
    for track in tracks:
        others = [t for t in kept if t.visible and track.visible]
        if all(distance(track.face, t.face) > 0.3 for t in others):
            kept.append(track)
    return kept


def distance(one: Face, other: Face) -> float:
    """Distance of two faces' centres, in units of their mean size."""
    (x, y, w, h), (u, v, p, q) = one.box, other.box
    apart = math.hypot(x + w / 2 - u - p / 2, y + h / 2 - v - q / 2)
    return apart / max((w + h + p + q) / 4, 1)


def matched(faces: Sequence[Face], tracks: Sequence[Track], seconds: float) -> dict[int, Track]:
    """{index of a face: its track}. The nearest pairs are matched first.

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
    chosen: dict[int, int] = {}
    for _, i, j in sorted(pairs):
        if i not in chosen and j not in chosen.values():
            chosen[i] = j
    return {i: tracks[j] for i, j in chosen.items()}
