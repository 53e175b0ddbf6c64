"""expression/tracker.py: the same number for the same person, and answers that do not flicker.

No networks: a frame is a dict {person: (x, y, width, height)}, which the stub finder reads.
"""

import math

import numpy as np
import pytest

from expression.face_detector import Face
from expression.face_prediction import FacePrediction
from expression.tracker import Tracker

NAMES = ("happy", "neutral", "sad")
SIZE = 40


class Finder:
    """Sees what a frame holds; follows what moved by less than half a face."""

    def __init__(self):
        self.searches = 0

    def find_batch(self, frames):
        self.searches += 1
        found = [[Face(box, 0.9) for box in frame.values()] for frame in frames]
        return [sorted(faces, key=lambda f: -f.box[2] * f.box[3]) for faces in found]

    def follow(self, frame, held):
        def now(face):
            x, y, width, _ = face.box
            near = [b for b in frame.values() if math.hypot(b[0] - x, b[1] - y) < width / 2]
            return Face(near[0], 0.9) if near else None

        return [now(face) for face in held]


class Frame(dict):
    """What the tracker makes of a frame: it is opened already."""

    info: dict = {}


class Film:
    """A tracker and its finder, fed frame by frame."""

    def __init__(self, classify=None, **settings):
        self.finder = Finder()
        classify = classify or (lambda crops: np.full((len(crops), 3), 1 / 3))
        # The "crop" is the box itself: classify sees who is where.
        self.tracker = Tracker(
            self.finder,
            lambda frame, box, tilt: box,
            classify,
            NAMES,
            open_frame=Frame,
            **settings,
        )

    def __call__(self, frame, seconds):
        """{person: track} of one frame."""
        seen = self.tracker(frame, seconds)
        return {
            name: next((s.track for s in seen if s.box == box), None) for name, box in frame.items()
        }


def at(x, y=0, size=SIZE):
    return (x, y, size, size)


def certain(index, share=1.0):
    """Probabilities of one face: `share` for one class, the rest for the others alike."""
    probs = np.full(3, (1 - share) / 2)
    probs[index] = share
    return probs


# --- who is who ---


def test_two_faces_that_pass_each_other_keep_their_numbers():
    film, numbers = Film(), set()
    for i in range(90):
        seen = film({"ann": at(6 * i, 0), "bob": at(540 - 6 * i, 60)}, i / 30)
        numbers.add((seen["ann"], seen["bob"]))
    assert numbers == {(1, 2)}


def test_a_face_gone_for_a_second_is_the_same_and_after_the_memory_a_new_one():
    for gone, number in ((1.0, 1), (3.0, 2)):
        film = Film(memory=2.0)
        assert film({"ann": at(100)}, 0.0) == {"ann": 1}
        frames = round(gone * 20)
        for i in range(1, frames):
            assert film.tracker({}, i / 20) == []
        # found at the latest when the empty frame's next search is due
        back = [film({"ann": at(110)}, gone + i / 20)["ann"] for i in range(6)]
        assert back[-1] == number and set(back) <= {None, number}


def test_a_newcomer_does_not_take_the_number_of_the_face_beside_it():
    """The larger face is looked at first, and at two frames a second much is "near"."""
    film = Film()
    film({"ann": at(0)}, 0.0)
    seen = film({"ann": at(0), "bob": at(36, 0, 44)}, 0.5)
    assert seen == {"ann": 1, "bob": 2}


def test_a_face_of_another_size_is_another_person():
    film = Film()
    film({"ann": at(100)}, 0.0)
    film({}, 0.1)
    assert film({"bob": at(100, 0, 3 * SIZE)}, 0.6) == {"bob": 2}


def test_two_tracks_on_one_face_become_the_older_one():
    film = Film(every=0.2)
    film({"ann": at(0), "bob": at(60)}, 0.0)
    for i in range(1, 20):
        frame = {"ann": at(0), "bob": at(max(60 - 5 * i, 4))}
        if i > 12:
            frame = {"ann": at(0)}  # they became one face
        seen = film.tracker(frame, i / 20)
    assert [s.track for s in seen] == [1]


def test_the_largest_face_comes_first():
    film = Film()
    seen = film.tracker({"a": at(0), "b": at(200, 0, 90), "c": at(400, 0, 60)}, 0.0)
    assert [s.box[2] for s in seen] == [90, 60, 40]


# --- how often the whole frame is searched ---


def test_held_faces_are_searched_for_no_more_often_than_asked():
    film = Film(every=0.5)
    for i in range(121):
        film({"ann": at(i), "bob": at(400 - i, 80)}, i / 30)  # four seconds
    assert film.finder.searches == 9  # at 0.0, 0.5, … 4.0


def test_a_newcomer_is_seen_within_the_time_between_two_searches():
    film = Film(every=0.5)
    film({"ann": at(0)}, 0.0)
    times = [i / 20 for i in range(1, 12)]
    seen = [film({"ann": at(0), "bob": at(300)}, t)["bob"] for t in times]
    assert seen[:9] == [None] * 9 and seen[9] == 2  # at half a second


def test_a_lost_face_is_searched_for_at_once():
    film = Film(every=0.5)
    film({"ann": at(0)}, 0.0)
    assert film({"ann": at(22)}, 0.05) == {"ann": 1}  # moved by more than half a face
    assert film.finder.searches == 2


def test_an_empty_frame_is_searched_more_often_but_not_always():
    film = Film(every=0.6)
    for i in range(61):
        film({}, i / 30)  # two seconds: every 0.2
    assert 7 <= film.finder.searches <= 11


# --- steady numbers ---


def play(answers, fps, **settings):
    """One face that stays; its expression by time → [(seconds, FacePrediction)]."""
    now = 0.0
    film = Film(lambda crops: np.stack([answers(now)] * len(crops)), **settings)
    seen = []
    for i in range(round(3 * fps) + 1):
        now = i / fps
        seen.append((now, film.tracker({"ann": at(0)}, now)[0]))
    return seen


def test_one_contradicting_frame_does_not_change_the_expression():
    seen = play(lambda t: certain(2 if abs(t - 1) < 1e-6 else 0, 0.9), fps=30)
    assert {s.expression for _, s in seen} == {"happy"}
    least = min(s.probs["happy"] for t, s in seen if t >= 1)
    assert least < 0.9  # but it counted


@pytest.mark.parametrize("fps", [10, 30])
def test_a_lasting_change_is_told_within_three_time_constants(fps):
    seen = play(lambda t: certain(2 if t > 1 else 0, 0.9), fps=fps, smooth=0.3)
    changed = next(t for t, s in seen if s.expression == "sad")
    assert 1.1 < changed <= 1.9
    assert next(s for t, s in seen if t >= 1.9 + 1 / fps).probs["sad"] > 0.8


def test_the_average_is_one_of_time_not_of_frames():
    slow, fast = (
        dict(play(lambda t: certain(2 if t > 1 else 0, 0.9), fps=fps))[2.0] for fps in (10, 30)
    )
    assert slow.probs["sad"] == pytest.approx(fast.probs["sad"], abs=0.01)


def test_probabilities_sum_to_one_and_the_most_likely_comes_first():
    generator = np.random.default_rng(0)
    seen = play(lambda t: generator.dirichlet([1, 1, 1]), fps=30)
    for _, s in seen:
        assert sum(s.probs.values()) == pytest.approx(1, abs=1e-5)
        assert list(s.probs.values()) == sorted(s.probs.values(), reverse=True)
        assert set(s.probs) == set(NAMES)


@pytest.mark.parametrize(("fps", "asked"), [(10, 10), (30, 15), (60, 15)])
def test_a_face_is_named_no_more_often_than_the_average_needs(fps, asked):
    crops = []

    def classify(boxes):
        crops.append(len(boxes))
        return np.array([certain(0)] * len(boxes))

    film = Film(classify)
    for i in range(fps):
        film({"ann": at(100)}, i / fps)
    assert sum(crops) == pytest.approx(asked, abs=1)
    crops.clear()
    film({"ann": at(100), "bob": at(300)}, 1.6)  # a newcomer is named in the frame that shows it
    assert crops == [2] and film.tracker(Frame(bob=at(300)), 1.61)[0].probs


def test_two_faces_keep_their_own_expressions():
    def classify(boxes):
        return np.stack([certain(0 if box[1] == 0 else 2, 0.9) for box in boxes])

    film = Film(classify)
    for i in range(60):
        seen = film.tracker({"ann": at(6 * i), "bob": at(360 - 6 * i, 80)}, i / 30)
        assert {s.box[1]: s.expression for s in seen} == {0: "happy", 80: "sad"}


def test_a_face_that_was_gone_is_not_held_to_its_old_expression():
    film = Film(lambda boxes: np.stack([certain(0 if b[0] == 100 else 2) for b in boxes]))
    film.tracker({"ann": at(100)}, 0.0)
    film.tracker({}, 0.1)
    (seen,) = film.tracker({"ann": at(105)}, 1.2)
    assert seen.track == 1 and seen.expression == "sad"


# --- long videos ---


def test_thousands_of_frames_of_new_faces_keep_only_the_last_seconds():
    film, most = Film(memory=2.0), 0
    for i in range(3_000):
        film({"new": at(i * 1000 % 7919 * 100)}, i / 25)
        most = max(most, len(film.tracker.tracks))
    assert film.tracker.count > 300  # they were new
    assert most <= 2.0 * 25 + 2


def test_a_video_that_starts_again_is_followed_from_its_start():
    film = Film()
    film({"ann": at(0)}, 50.0)
    (seen,) = film.tracker({"ann": at(0)}, 0.0)
    assert isinstance(seen, FacePrediction) and seen.track == 2
    assert film({"ann": at(0)}, 0.1) == {"ann": 2}


def test_a_video_that_starts_again_after_an_empty_end_is_searched_at_once():
    """The time of the last search must go too, or nothing is found until it comes again."""
    film = Film()
    film.tracker({}, 50.0)
    assert film({"ann": at(0)}, 0.0) == {"ann": 1}


def test_a_frame_without_faces_asks_no_network():
    def refuse(crops):
        raise AssertionError("classified nothing")

    assert Film(refuse).tracker({}, 0.0) == []


def test_what_only_the_last_network_believes_in_is_let_go():
    # A pattern in the wallpaper that `follow` accepts for ever would keep its box for ever
    film = Film(every=0.5)
    assert film({"ann": at(0)}, 0.0) == {"ann": 1}
    film.finder.find_batch = lambda frames: [[] for _ in frames]
    held = [film({"ann": at(0)}, i / 10)["ann"] for i in range(1, 30)]
    assert held[:9] == [1] * 9, "one search that misses a face must not lose it"
    assert held[-1] is None
