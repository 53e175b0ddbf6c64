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

from expression.appearance import Appearance, is_cut, samples, thumbnail
from expression.face_detector import CropRule, Face, FaceFinder
from expression.face_prediction import FacePrediction, check_min_confidence, enlarged, ranked
from expression.pictures import Picture, as_picture, reduced
from expression.places import best_first, distance, is_clear, near_places

__all__ = ["Tracker"]

LOOK_EVERY, LOOK_SHARE = 1.0, 0.2  # seconds, and what a further look counts: slow against errors
LEAST_LOOKS = 2  # of a face that is remembered: it was visible for a second
NAME_EVERY = 1 / 15  # seconds; probabilities are averaged over several times that
JUMP = 0.6  # correlation of a face's pixels in two frames, below which it may be another person


@dataclass
class Track:
    """One person's face through time."""

    number: int
    face: Face
    last_seen: float  # seconds
    probs: np.ndarray | None = None  # (num_classes,), smoothed
    named: float = -math.inf  # seconds: when they were last asked for
    visible: bool = True  # in the last frame
    missed: int = 0  # searches of the whole frame in a row that did not find it
    placed: bool = True  # no cut since: who is where it was may be the same person
    look: np.ndarray | None = None  # (128,) average of the face's appearance, a unit vector
    looks: int = 0  # that are in the average
    looked: float = -math.inf  # seconds: the last of them
    pixels: np.ndarray | None = None  # (64,) of the last frame

    @property
    def look_every(self) -> float:
        """Seconds between two looks: a new face is learned sooner."""
        return LOOK_EVERY if self.looks < LEAST_LOOKS else 4 * LOOK_EVERY

    def likeness(self, look: np.ndarray) -> float:
        """Of this face and a look, in [-1, 1]; nan while it has no look."""
        return math.nan if self.look is None else float(self.look @ look)


class Tracker:
    """Call it with each frame and its time in seconds: gives the faces, with their track numbers.

    `classify` maps face crops to probabilities (N, num_classes). `every` is the time between two
    searches of the whole frame, `memory` how long a face may be missing and keep its number by its
    place alone, `smooth` the time constant of the average, all in seconds. With `appearance`, the
    last `remember` faces that were visible for a second keep their numbers for as long as the video
    lasts; without, or above that, the face longest gone is forgotten, so memory stays bounded. A
    face is "not sure" while its averaged probabilities stay below `min_confidence`.
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
        appearance: Appearance | None = None,
        remember: int = 30,
    ) -> None:
        self.finder, self.crop, self.classify = finder, crop, classify
        self.class_names = tuple(class_names)
        self.every, self.memory, self.smooth = every, memory, smooth
        self.min_confidence = check_min_confidence(min_confidence)
        self.open_frame = open_frame
        self.appearance, self.remember = appearance, remember
        self.tracks: list[Track] = []
        self.scene: np.ndarray | None = None  # the last frame's thumbnail
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
            self.tracks, self.searched, self.scene = [], -math.inf, None
        self.time = seconds
        self.locate(image, seconds)
        visible = [track for track in self.tracks if track.visible]
        self.name(image, visible, seconds)
        for track in visible:
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

    def name(self, image: Image.Image, tracks: Sequence[Track], seconds: float) -> None:
        """Ask what the faces show, those that are new or were asked some time ago; average it."""
        due = [t for t in tracks if t.probs is None or seconds - t.named > NAME_EVERY - 1e-3]
        if not due:
            return
        crops = [self.crop(image, track.face.box, track.face.tilt) for track in due]
        for track, probs in zip(due, self.classify(crops), strict=True):
            if track.probs is None:
                track.probs = probs
            else:
                gap = max(seconds - track.named, 1e-3)
                new = 1 - math.exp(-gap / self.smooth)
                track.probs = track.probs + new * (probs - track.probs)
            track.named = seconds

    def locate(self, image: Image.Image, seconds: float) -> None:
        """Update each track: where it is in this frame, or that it is not visible."""
        self.forget(seconds)
        before = [t for t in self.tracks if t.visible]
        moved = self.finder.follow(image, [t.face for t in before])
        for track, face in zip(before, moved, strict=True):
            track.visible = face is not None
            track.face = face or track.face
        if self.appearance is not None:
            self.part_others(image, self.appearance)
        lost = any(not t.visible for t in before)
        due = self.every if before else self.every / 3  # an empty frame is searched more often
        if lost or seconds - self.searched >= due:
            self.search(image, seconds)
        if self.appearance is not None:
            self.learn(image, seconds, self.appearance)

    def search(self, image: Image.Image, seconds: float) -> None:
        """Find the faces of the whole frame, and whose each is."""
        self.searched = seconds
        found = self.finder.find_batch([image])[0]
        pairs = self.pair(image, found, seconds)
        for track in self.tracks:
            track.missed += 1
            # Two searches in a row may miss a face that the last network still follows; after the
            # third, the track is dropped: the network follows something that is no face.
            track.visible = track.visible and track.missed < 3
        for i, face in enumerate(found):
            if i not in pairs:
                self.count += 1
                self.tracks.append(Track(self.count, face, seconds))
                continue
            track = pairs[i]
            if seconds - track.last_seen > self.memory:
                track.probs = None  # what it showed then is no part of what it shows now
            if not track.visible:
                track.pixels = None
            track.face, track.visible, track.missed, track.placed = face, True, 0, True
        self.tracks = self.without_doubles(image)

    def forget(self, seconds: float) -> None:
        """Drop faces that are gone, but for the last `remember` whose appearance is known."""
        gone = [t for t in self.tracks if seconds - t.last_seen > self.memory]
        known = [t for t in gone if t.looks >= LEAST_LOOKS]
        known.sort(key=lambda t: -t.last_seen)
        dropped = {t.number for t in gone} - {t.number for t in known[: self.remember]}
        self.tracks = [t for t in self.tracks if t.number not in dropped]

    def part_others(self, image: Image.Image, appearance: Appearance) -> None:
        """Let go of tracks that follow another person at the same place.

        After a cut, all compete by appearance alone, the most alike first. Where only a face has
        changed, each is asked whether it is still the same.
        """
        scene, self.scene = self.scene, thumbnail(image)
        if scene is not None and is_cut(scene, self.scene):
            for track in self.tracks:
                track.visible = track.placed = False
        visible = [t for t in self.tracks if t.visible]
        if not visible:
            return
        suspects: list[Track] = []
        others: list[Track] = []
        now = samples(image, [t.face for t in visible])
        for track, pixels in zip(visible, now, strict=True):
            jumped = track.pixels is not None and track.pixels @ pixels < JUMP
            (suspects if jumped else others).append(track)
            track.pixels = pixels
        if self.part(image, suspects, appearance):  # where one face is another's, others may be too
            self.part(image, others, appearance)

    def part(self, image: Image.Image, tracks: Sequence[Track], appearance: Appearance) -> bool:
        """Let go of those that no longer look like themselves; whether there were any."""
        for track in tracks:
            if track.likeness(appearance(image, track.face)) < appearance.near:
                track.visible = track.placed = False
        return not all(track.visible for track in tracks)

    def learn(self, image: Image.Image, seconds: float, appearance: Appearance) -> None:
        """Look at one face, the one longest not looked at: what it costs a frame is bounded."""
        due = [t for t in self.tracks if t.visible and seconds - t.looked >= t.look_every]
        for track in sorted(due, key=lambda t: t.looked)[:1]:
            others = [t.face for t in self.tracks if t.visible and t is not track]
            if not is_clear(image, track.face, others):
                track.looked = (
                    seconds - track.look_every + LOOK_EVERY / 2
                )  # soon again, after the others
                continue
            look, track.looked = appearance(image, track.face), seconds
            mistaken = [
                t for t in self.tracks if t is not track and t.likeness(look) > appearance.same
            ]
            if track.likeness(look) < appearance.near and mistaken:  # a change that was missed
                self.part(image, [t for t in self.tracks if t.visible], appearance)
                self.searched = -math.inf
                continue
            if track.looks < LEAST_LOOKS:
                self.recognise(track, look, appearance.same)
            if track.likeness(look) < appearance.other:
                continue  # turned away, covered, or another person: nothing to learn
            if track.look is not None:
                look = track.look + LOOK_SHARE * (look - track.look)
            track.look = look / max(float(np.linalg.norm(look)), 1e-6)
            track.looks += 1

    def recognise(self, young: Track, look: np.ndarray, same: float) -> None:
        """Give a new track the number of a remembered one: faces often come back half covered."""
        known = [t for t in self.tracks if not t.visible and t.likeness(look) >= same]
        if known:
            old = max(known, key=lambda t: t.likeness(look))
            young.number, young.look, young.looks = old.number, old.look, old.looks
            self.tracks = [t for t in self.tracks if t is not old]
            self.tracks.sort(key=lambda t: t.number)

    def pair(self, image: Image.Image, found: Sequence[Face], seconds: float) -> dict[int, Track]:
        """{index of a face: its track}.

        First come the faces of the last frame, at their places; then remembered faces by their
        appearance, the most alike first; then those that were lost a moment ago, by place alone.
        """
        visible = [t for t in self.tracks if t.visible]
        places = near_places(found, visible, seconds)
        pairs = {i: visible[j] for i, j in best_first(places).items()}
        lost = [t for t in self.tracks if not t.visible]
        rest = [i for i in range(len(found)) if i not in pairs]
        places = [p for p in near_places(found, lost, seconds) if p[1] in rest]
        if self.appearance is not None and any(t.look is not None for t in lost):
            level, near = self.appearance, {(i, j) for _, i, j in places}
            looks = {i: level(image, found[i]) for i in rest}
            alike = {(i, j): lost[j].likeness(looks[i]) for i in rest for j in range(len(lost))}
            sure = [
                (-value, i, j)
                for (i, j), value in alike.items()
                if value >= (level.near if lost[j].placed and (i, j) in near else level.same)
            ]
            pairs.update({i: lost[j] for i, j in best_first(sure).items()})
            places = [p for p in places if not alike[p[1:]] < level.other]  # nan: not known
        taken = {t.number for t in pairs.values()}
        places = [
            (apart, i, j)
            for apart, i, j in places
            if i not in pairs
            and lost[j].number not in taken
            and lost[j].placed
            and seconds - lost[j].last_seen <= self.memory
        ]
        return pairs | {i: lost[j] for i, j in best_first(places).items()}

    def without_doubles(self, image: Image.Image) -> list[Track]:
        """The tracks, only one of those that follow the same face: the older, or the more alike.

        The other one is dropped, or hidden if its appearance is known: one person walked past
        the other.
        """
        dropped = set()
        shown: list[Track] = []
        for track in (t for t in self.tracks if t.visible):
            other = next((t for t in shown if distance(track.face, t.face) <= 0.3), None)
            if other is None:
                shown.append(track)
            elif self.appearance is not None and other.looks and track.looks:
                look = self.appearance(image, other.face)
                hidden = other if track.likeness(look) > other.likeness(look) else track
                hidden.visible = False
                shown = [t for t in [*shown, track] if t.visible]
            else:
                dropped.add(track.number)
        return [t for t in self.tracks if t.number not in dropped]
