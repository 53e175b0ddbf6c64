"""expression/appearance.py and the tracker: a person who comes back keeps the number.

A film of three drawn people, each frame lighter, darker, moved, with another expression. The finder
knows where they are, as a detector would; like the detector's last network it follows any face
that is where the old one was.
"""

import csv
import math
import time
from statistics import median

import numpy as np
import pytest
from PIL import Image

from expression.appearance import Appearance, default_appearance, is_cut, samples, thumbnail
from expression.face_detector import Face
from expression.timeline import read_timeline
from expression.tracker import JUMP, Tracker
from expression.video import VideoWriter, annotate_video
from lab.datasets.synthetic import EXPRESSIONS, draw_face

NAMES = ("happy", "neutral", "sad")
SEEDS = {"ann": 8, "bob": 29, "cem": 32}  # of three people who do not look alike
SIZE, FPS = 96, 10
LEFT, MIDDLE, RIGHT = (30, 60), (180, 60), (330, 60)


def box_of(x, y, size=SIZE):
    """Where a detector sees the face in a drawn picture: without its edges."""
    return round(x + 0.19 * size), round(y + 0.14 * size), round(0.62 * size), round(0.75 * size)


@pytest.fixture(scope="module")
def faces():
    """{person: ten pictures}: one person, other expressions."""
    return {
        name: [
            draw_face(EXPRESSIONS[k % len(EXPRESSIONS)], np.random.default_rng(seed), SIZE)
            for k in range(10)
        ]
        for name, seed in SEEDS.items()
    }


class Film:
    """A tracker and a finder that knows the place of each person in the frame shown last."""

    def __init__(self, faces, **settings):
        self.faces, self.rng, self.shown, self.index = faces, np.random.default_rng(0), {}, 0
        self.score = 0.99
        self.tracker = Tracker(
            self,
            lambda image, box, tilt: box,
            lambda crops: np.full((len(crops), 3), 1 / 3),
            NAMES,
            **{"appearance": default_appearance()} | settings,
        )

    def picture(self, people, wall=(96, 110, 120), canvas=(460, 220), covered=False):
        """One frame: each person at a place, as it looks in this moment."""
        image = Image.new("RGB", canvas, wall)
        self.shown = {}
        for name, (x, y) in people.items():
            x, y = (round(v + self.rng.normal(0, 1)) for v in (x, y))
            face = self.faces[name][self.index // 7 % 10]
            light = self.rng.uniform(0.8, 1.2)
            image.paste(face.point(lambda v, light=light: min(round(v * light), 255)), (x, y))
            if covered:
                image.paste(wall, (x, y, x + SIZE, y + SIZE * 5 // 8))
            self.shown[name] = box_of(x, y)
        self.index += 1
        return image

    def find_batch(self, images):
        return [[Face(box, self.score) for box in self.shown.values()]]

    def follow(self, image, held):
        def now(face):
            x, y, width, _ = face.box
            near = [b for b in self.shown.values() if math.dist(b[:2], (x, y)) < width / 2]
            return Face(near[0], self.score) if near else None

        return [now(face) for face in held]

    def play(self, people, seconds, **look):
        """Numbers of each person in the last frame, after `seconds` of this scene."""
        for _ in range(round(seconds * FPS)):
            image = self.picture(people, **look)
            answers = {f.box: f.track for f in self.tracker(image, self.index / FPS)}
        return {name: answers.get(box) for name, box in self.shown.items()}


def test_three_people_are_told_apart_and_known_again(faces):
    # Without this, the tests of the tracker below would test their drawings.
    describe = default_appearance()
    looks = {
        n: [describe(f, Face(box_of(0, 0), 0.99)) for f in pictures]
        for n, pictures in faces.items()
    }
    for name, own in looks.items():
        assert min(own[0] @ look for look in own) > describe.same, name
        others = [look for other in looks if other != name for look in looks[other]]
        assert max(own[0] @ look for look in others) < describe.near, name


def test_who_leaves_and_comes_back_keeps_the_number_at_any_place(faces):
    film = Film(faces)
    first = film.play({"ann": LEFT, "bob": MIDDLE, "cem": RIGHT}, 6)
    assert sorted(first.values()) == [1, 2, 3]
    film.play({"bob": MIDDLE}, 20)
    assert film.play({"bob": MIDDLE, "ann": RIGHT}, 2) == {n: first[n] for n in ("bob", "ann")}
    assert film.play({"cem": LEFT, "ann": RIGHT}, 4) == {n: first[n] for n in ("cem", "ann")}
    film.play({}, 60)
    assert film.play({"cem": MIDDLE, "bob": LEFT, "ann": RIGHT}, 2) == first


def test_without_appearance_a_face_gone_for_long_gets_a_new_number(faces):
    film = Film(faces, appearance=None)
    first = film.play({"ann": LEFT}, 6)
    film.play({}, 20)
    assert film.play({"ann": LEFT}, 2)["ann"] == first["ann"] + 1


def test_a_stranger_at_the_place_of_somebody_gone_gets_a_new_number(faces):
    for gone in (1, 20):  # within the tracker's memory of places, and after it
        film = Film(faces)
        film.play({"ann": LEFT}, 6)
        film.play({}, gone)
        assert film.play({"bob": LEFT}, 2) == {"bob": 2}
        assert film.play({"bob": LEFT, "ann": RIGHT}, 3) == {"bob": 2, "ann": 1}


@pytest.mark.parametrize("wall", [(96, 110, 120), (220, 40, 40)])
@pytest.mark.parametrize("canvas", [(460, 220), (1280, 720)])
def test_a_cut_that_swaps_places_swaps_the_numbers_too(faces, wall, canvas):
    # The detector's last network follows whoever sits there now; in a large frame with the same
    # wall, nothing but the faces tells the cut.
    film = Film(faces)
    first = film.play({"ann": LEFT, "bob": MIDDLE, "cem": RIGHT}, 6, canvas=canvas)
    new = {"wall": wall, "canvas": canvas}
    assert film.play({"bob": LEFT, "cem": MIDDLE, "ann": RIGHT}, 0.1, **new) == first
    # Where even the faces' pixels hide it, it is noticed when a face is looked at again.
    assert film.play({"cem": LEFT, "ann": MIDDLE, "bob": RIGHT}, 6, **new) == first


def test_a_flash_changes_no_number(faces):
    film = Film(faces)
    first = film.play({"ann": LEFT, "bob": RIGHT}, 4)
    image = film.picture({"ann": LEFT, "bob": RIGHT}).point(lambda v: min(v + 70, 255))
    film.tracker(image, film.index / FPS)
    assert film.play({"ann": LEFT, "bob": RIGHT}, 1) == first


def test_who_walks_past_in_front_gives_the_number_back(faces):
    film = Film(faces)
    first = film.play({"ann": LEFT, "bob": MIDDLE}, 6)
    for step in range(0, 32):  # bob in front of ann: she cannot be seen while he covers her
        x = MIDDLE[0] - 10 * step
        covered = abs(x - LEFT[0]) < 70
        film.play({"bob": (max(x, -20), 62)} | ({} if covered else {"ann": LEFT}), 0.1)
    back = film.play({"ann": LEFT, "bob": RIGHT}, 3)
    assert back == first


def test_two_faces_at_once_are_two_tracks_even_if_alike(faces):
    film = Film(faces | {"twin": faces["ann"]})
    film.play({"ann": LEFT}, 6)
    film.play({}, 10)
    both = film.play({"ann": MIDDLE, "twin": RIGHT}, 3)
    assert sorted(both.values()) == [1, 2]


def test_a_returning_face_starts_its_average_anew(faces):
    film, now = Film(faces, smooth=30.0), 0
    film.tracker.classify = lambda crops: np.eye(3)[[now] * len(crops)]
    film.play({"ann": LEFT}, 5)
    film.play({}, 5)
    now = 2
    image = film.picture({"ann": RIGHT})
    (face,) = film.tracker(image, film.index / FPS)
    assert face.track == 1 and face.probs["sad"] == pytest.approx(1)


def test_an_unsure_face_teaches_nothing(faces):
    film = Film(faces)
    film.score = 0.9
    film.play({"ann": LEFT}, 4)
    assert [t.looks for t in film.tracker.tracks] == [0]


def test_who_comes_back_covered_gets_the_number_once_clear(faces):
    film = Film(faces)
    first = film.play({"ann": LEFT}, 6)
    film.play({}, 5)
    film.score = 0.9  # as a detector says of half a face
    assert film.play({"ann": RIGHT}, 0.3, covered=True)["ann"] != first["ann"]
    film.score = 0.99
    assert film.play({"ann": RIGHT}, 3) == first


class Crowd:
    """The appearances of a crowd: after each absence comes another person."""

    same, near, other, person = 0.5, 0.5, -0.5, 0

    def __call__(self, image, face):
        return np.eye(128, dtype=np.float32)[self.person]


def test_however_many_people_pass_only_the_last_are_remembered(faces):
    crowd = Crowd()
    film = Film(faces, appearance=crowd, remember=5)
    for crowd.person in range(20):
        film.play({"ann": LEFT}, 2.5)
        film.play({}, 2.5)
    assert [t.number for t in film.tracker.tracks] == [16, 17, 18, 19, 20]


def test_a_cut_is_told_from_a_change_of_light():
    noise = np.random.default_rng(0).integers(0, 256, (9, 16), dtype=np.uint8)
    scene = Image.fromarray(noise).resize((320, 180), Image.Resampling.NEAREST).convert("RGB")
    darker = scene.point(lambda v: v * 0.7)
    other = scene.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    before, light, cut = (thumbnail(image) for image in (scene, darker, other))
    assert not is_cut(before, light)
    assert is_cut(before, cut)


@pytest.mark.parametrize("size", [60, 240])
def test_a_small_step_of_a_face_is_no_other_face(faces, size):
    # Single pixels of a small face, without a mean, differ as much as another person's.
    def seen(name, step, light):
        image = Image.new("RGB", (1280, 720), (90, 90, 90))
        face = faces[name][0].resize((size, size)).point(lambda v: min(round(v * light), 255))
        image.paste(face, (500 + step, 200 + step))
        return samples(image, [Face(box_of(500 + step, 200 + step + 1, size), 0.99)])[0]

    first = [seen("ann", 0, 1) @ seen("ann", step, 0.85) for step in range(1, 8)]
    assert min(first) > JUMP
    assert seen("ann", 0, 1) @ seen("cem", 0, 1) < min(first)


def test_faces_at_the_edge_and_of_one_pixel_are_described():
    describe = Appearance()
    for mode in ("L", "RGB"):
        for box in ((-40, -40, 60, 80), (90, 90, 300, 300), (5, 5, 1, 1)):
            look = describe(Image.new(mode, (100, 100), "gray"), Face(box, 0.99, 20.0))
            assert look.shape == (128,) and np.isfinite(look).all()


def test_three_faces_cost_little(faces):
    # A budget of 0.3 ms a frame; a busy machine, where tests run, is slower: ten times that fails.
    people = {"ann": LEFT, "bob": MIDDLE, "cem": RIGHT}
    spent = {}
    for name, appearance in {"with": default_appearance(), "without": None}.items():
        film, times = Film(faces, appearance=appearance), []
        for index in range(120):
            image = film.picture(people)
            start = time.perf_counter()
            film.tracker(image, index / 30)
            times.append(time.perf_counter() - start)
        spent[name] = median(times)
    assert spent["with"] - spent["without"] < 3e-3


def test_a_video_s_table_keeps_the_numbers(faces, tmp_path):
    scenes = [({"ann": LEFT, "bob": MIDDLE, "cem": RIGHT}, 3), ({"cem": MIDDLE}, 3),
              ({"bob": LEFT, "ann": RIGHT}, 2)]  # fmt: skip
    film, shown = Film(faces), []
    with VideoWriter(tmp_path / "film.mp4") as video:
        for people, seconds in scenes:
            for _ in range(seconds * FPS):
                video.write(film.picture(people), len(shown) / FPS)
                shown.append(film.shown)

    def follow(image, seconds):
        film.shown = shown[round(seconds * FPS)]
        return film.tracker(image, seconds)

    annotate_video(
        tmp_path / "film.mp4", follow, class_names=NAMES, video_out=None,
        csv_out=tmp_path / "film.csv", draw=lambda image, seen: image,
    )  # fmt: skip
    numbers = {}
    with (tmp_path / "film.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            frame, x = round(float(row["seconds"]) * FPS), int(row["x"])
            name = next(n for n, box in shown[frame].items() if box[0] == x)
            numbers.setdefault(name, set()).add(row["track"])
    assert sorted(map(sorted, numbers.values())) == [["1"], ["2"], ["3"]]
    assert len(read_timeline(tmp_path / "film.csv")[1]) == 30 * 3 + 30 + 20 * 2
