"""faces.py: every face once, at its place, and cropped as a training set was cropped.

The face is the astronaut's of scikit-image, which lies inside that package: no download.
"""

import json
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import skimage.data
from PIL import Image

from expression import face_detector
from expression.face_detector import CropRule, Face, FaceFinder, measure_crop

BOX = (182, 62, 85, 111)  # the astronaut's face
CENTRE = (224.5, 117.5)


@pytest.fixture(scope="module")
def finder():
    return FaceFinder()


@pytest.fixture(scope="module")
def grass():
    return Image.fromarray(skimage.data.grass()).convert("RGB").resize((640, 480))


def corners(box):
    x, y, width, height = box
    return x, y, x + width, y + height


def middle(box):
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def alike(one, other):
    """Intersection over union."""
    (a, b, c, d), (e, f, g, h) = corners(one), corners(other)
    inter = max(min(c, g) - max(a, e), 0) * max(min(d, h) - max(b, f), 0)
    return inter / (one[2] * one[3] + other[2] * other[3] - inter)


def turned_place(angle, size=(512, 512)):
    """Where the face's centre lies once the picture is turned counter-clockwise."""
    a = math.radians(angle)
    dx, dy = CENTRE[0] - 256, CENTRE[1] - 256
    x, y = dx * math.cos(a) + dy * math.sin(a), -dx * math.sin(a) + dy * math.cos(a)
    return (x + 256) * size[0] / 512, (y + 256) * size[1] / 512


def same(one, other):
    """Correlation of two crops seen at 48 pixels; 1 for the same picture."""
    rows = [
        np.asarray(picture.convert("L").resize((48, 48)), float).ravel() for picture in (one, other)
    ]
    return np.corrcoef(*rows)[0, 1]


# --- finding ---


def test_our_cascade_and_the_packages_own_give_the_same_box(finder, astronaut):
    from facenet_pytorch import MTCNN

    boxes, _ = MTCNN(keep_all=True).detect(astronaut)
    (face,) = finder.find(astronaut)
    assert len(boxes) == 1
    # ours reads large faces from a smaller copy: 3 pixels of 110
    assert np.abs(np.array(corners(face.box)) - boxes[0].astype(float)).max() <= 4
    assert face.score > 0.95 and abs(face.tilt) < 10


@pytest.mark.parametrize("scale", [0.3, 0.75, 2.0])
def test_the_box_is_in_the_pixels_of_the_picture_that_was_given(finder, astronaut, scale):
    picture = astronaut.resize((round(512 * scale),) * 2, Image.Resampling.BICUBIC)
    (face,) = finder.find(picture)
    assert alike(tuple(v / scale for v in face.box), BOX) > 0.75


@pytest.mark.parametrize(("count", "height"), [(2, 145), (12, 100)])
def test_every_face_of_a_scene_is_found_once_and_in_its_place(
    finder, astronaut, grass, count, height
):
    cutout = astronaut.crop((165, 45, 285, 190)).resize((height * 120 // 145, height))
    scene, places = grass.copy(), []
    for i in range(count):
        corner = (10 + i % 4 * 155, 10 + i // 4 * 155)
        scene.paste(cutout, corner)
        share = height / 145
        places.append((corner[0] + (224.5 - 165) * share, corner[1] + (117.5 - 45) * share))
    found = finder.find(scene)
    assert len(found) == count
    for place in places:
        assert min(math.dist(place, middle(face.box)) for face in found) < 0.1 * height


def test_gray_and_colour_give_the_same_box(finder, astronaut):
    (gray,), (colour,) = finder.find(astronaut.convert("L")), finder.find(astronaut)
    assert np.abs(np.subtract(corners(gray.box), corners(colour.box))).max() <= 5


def test_a_batch_of_different_sizes_equals_one_by_one(finder, astronaut, grass):
    """A small picture beside a large one must not lose the faces that it has alone."""
    wide = Image.new("RGB", (800, 800), "gray")
    wide.paste(astronaut, (100, 200))
    pictures = [
        wide.resize((160, 160), Image.Resampling.BICUBIC),
        grass,
        astronaut.crop((100, 0, 340, 512)).convert("L"),
    ]
    together = finder.find_batch(pictures)
    assert [len(found) for found in together] == [1, 0, 1]
    for picture, found in zip(pictures, together, strict=True):
        for face, alone in zip(found, finder.find(picture, tilted=False), strict=True):
            assert alike(face.box, alone.box) > 0.75
    assert finder.find_batch([]) == []


def test_the_largest_face_comes_first(finder, astronaut, grass):
    scene = grass.copy()
    for height, corner in ((90, (20, 20)), (200, (220, 100)), (130, (480, 250))):
        cutout = astronaut.crop((165, 45, 285, 190))
        scene.paste(cutout.resize((height * 120 // 145, height)), corner)
    heights = [face.box[3] for face in finder.find(scene)]
    assert len(heights) == 3 and heights == sorted(heights, reverse=True)


@pytest.mark.parametrize("angle", [40, -40, 70, -70])
def test_a_tilted_face_is_found_and_set_upright(finder, astronaut, angle):
    turned = astronaut.rotate(angle, Image.Resampling.BICUBIC)
    (face,) = finder.find(turned)
    assert math.dist(middle(face.box), turned_place(angle)) < 12
    (upright,) = finder.find(astronaut)
    assert abs(face.tilt - (upright.tilt - angle)) < 15  # positive: to be turned anti-clockwise
    rule = CropRule()
    wanted = rule(astronaut, upright.box)
    straight = same(rule(turned, face.box, face.tilt), wanted)
    assert straight > same(rule(turned, face.box), wanted) + 0.2
    assert straight > same(rule(turned, face.box, -face.tilt), wanted) + 0.2


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_a_picture_on_its_side_or_head_shows_its_face_in_its_place(finder, astronaut, angle):
    """A photo without EXIF data; it is not square, so its sides change places."""
    photo = astronaut.crop((0, 0, 512, 340))
    turned = photo.rotate(angle, expand=True)
    (face,) = finder.find(turned)
    assert finder.find(turned, tilted=False) == []
    (upright,) = finder.find(photo)
    a = math.radians(angle)
    dx, dy = np.subtract(middle(upright.box), np.divide(photo.size, 2))
    place = (dx * math.cos(a) + dy * math.sin(a), -dx * math.sin(a) + dy * math.cos(a))
    assert math.dist(np.add(place, np.divide(turned.size, 2)), middle(face.box)) < 4
    assert abs((face.tilt + angle - upright.tilt + 180) % 360 - 180) < 8
    rule = CropRule()
    straight = rule(turned, face.box, face.tilt)
    assert same(straight, rule(photo, upright.box)) > 0.9


def crowd(astronaut, size, height, columns, rows):
    """A large photo of many small faces, and the corners at which they stand."""
    scene = Image.fromarray(skimage.data.grass()).convert("RGB").resize(size)
    face = astronaut.crop((165, 45, 285, 190)).resize((height * 120 // 145, height))
    corners = [
        (round((i + 0.3) * size[0] / columns), round((j + 0.3) * size[1] / rows))
        for i in range(columns)
        for j in range(rows)
    ]
    for corner in corners:
        scene.paste(face, corner)
    return scene, corners


@pytest.mark.parametrize("setting", [((1600, 1200), 80, 8, 5), ((2400, 1600), 90, 2, 1)])
def test_small_faces_of_a_large_photo_are_found_by_a_finer_look(finder, astronaut, setting):
    """Faces of 4 to 5 hundredths of the picture: below the first look's 0.06."""
    scene, corners = crowd(astronaut, *setting)
    places = [middle(face.box) for face in finder.find(scene, tilted=False)]
    assert len(places) == len(corners)
    assert all(min(math.dist(p, (x + 40, y + 40)) for p in places) < 25 for x, y in corners)
    assert len(finder.search(scene)) < len(corners)


def test_a_smallest_face_that_was_asked_for_is_the_only_look(finder, astronaut):
    scene, corners = crowd(astronaut, (1600, 1200), 80, 8, 5)
    asked = FaceFinder(smallest=0.3)
    looks = []
    asked.run = lambda *call: looks.append(call) or []
    assert asked.find(scene, tilted=False) == [] and len(looks) == 1


def test_faces_of_a_hundredth_are_searched_at_a_size_at_which_they_can_be_seen(astronaut):
    scene, corners = crowd(astronaut, (4000, 3000), 70, 3, 2)
    assert FaceFinder(smallest=0.04).find(scene, tilted=False) == []
    assert len(FaceFinder(smallest=0.012).find(scene, tilted=False)) == len(corners)


def test_only_the_second_look_finds_a_strongly_tilted_face(finder, astronaut):
    assert finder.find(astronaut.rotate(75, Image.Resampling.BICUBIC), tilted=False) == []


def test_the_second_look_turns_a_small_copy_of_a_photo(finder, astronaut, monkeypatch):
    """Turning twelve million pixels twice takes seconds, for every photo without a face."""
    photo = astronaut.rotate(-70, Image.Resampling.BICUBIC).resize((1536, 1536))
    turned, rotate = [], Image.Image.rotate
    monkeypatch.setattr(
        Image.Image,
        "rotate",
        lambda self, *a, **k: turned.append(self.size) or rotate(self, *a, **k),
    )
    (face,) = finder.find(photo)
    assert math.dist(middle(face.box), turned_place(-70, photo.size)) < 36
    assert turned and max(max(size) for size in turned) <= finder.detail


def patterns():
    rng = np.random.default_rng(0)
    yield "noise", rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    yield "flat", np.full((300, 300), 200, np.uint8)
    x, y = np.meshgrid(np.arange(400), np.arange(300))
    for period in (9, 40):
        wave = np.sin(2 * np.pi * x / period) + np.sin(2 * np.pi * (x + y) / (2 * period))
        yield f"grating of {period}", (127 + 60 * wave).astype(np.uint8)
    for name in ("brick", "grass", "gravel"):
        yield name, getattr(skimage.data, name)()


@pytest.mark.parametrize(("name", "pixels"), patterns(), ids=[name for name, _ in patterns()])
def test_no_face_where_there_is_none(finder, name, pixels):
    assert finder.find(Image.fromarray(pixels)) == [], name


@pytest.mark.parametrize("size", [(1, 1), (3000, 10), (10, 3000), (11, 13)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_odd_sizes_hold_no_face_and_do_not_crash(finder, size, mode):
    assert finder.find(Image.new(mode, size, "white")) == []


@pytest.mark.parametrize("smallest", [0, -0.1, 1.5, math.nan])
def test_a_smallest_face_that_is_no_share_is_refused(smallest):
    with pytest.raises(ValueError, match="smallest is"):
        FaceFinder(smallest=smallest)


def test_a_long_picture_is_searched_even_for_large_faces_only(astronaut):
    """A face as large as the shorter side is below `smallest` of the longer, but it is there."""
    (face,) = FaceFinder(smallest=0.9).find(astronaut.crop((140, 40, 340, 190)), tilted=False)
    assert alike(face.box, (42, 22, 85, 111)) > 0.6


# --- following ---


def test_a_face_that_moved_a_little_is_followed_and_one_that_left_is_not(finder, astronaut, grass):
    start = finder.find(astronaut)
    moved = Image.new("RGB", astronaut.size)
    moved.paste(astronaut, (10, 0))
    (face,) = finder.follow(moved, start)
    assert abs(middle(face.box)[0] - CENTRE[0] - 10) < 6
    assert finder.follow(grass.resize((512, 512)), start) == [None]
    nowhere = Face((20, 300, 85, 110), 1.0)
    first, second = finder.follow(astronaut, [nowhere, *start])
    assert first is None and alike(second.box, BOX) > 0.8
    assert finder.follow(astronaut, []) == []


# --- the crop ---


@pytest.mark.parametrize("size", [(512, 512), (1024, 1024), (1401, 1400), (3000, 2999)])
def test_following_in_a_part_of_the_picture_finds_what_following_in_the_whole_does(
    finder, astronaut, size, monkeypatch
):
    image = astronaut.resize(size)
    times = size[0] / 512
    held = [Face(tuple(round(v * times) for v in BOX), 1.0)]
    (part,) = finder.follow(image, held)
    monkeypatch.setattr(face_detector, "surroundings", lambda corners, size, step: (0, 0, *size))
    (whole,) = finder.follow(image, held)
    pixel = max(size) / 640 if max(size) > 640 else 1  # of the picture that the network sees
    for one, other in zip(corners(part.box), corners(whole.box), strict=True):
        assert abs(one - other) <= 1.5 * pixel


@pytest.mark.parametrize("box", [(-500, -500, 40, 40), (5000, 90, 40, 40), (-30, 40, 60, 60)])
def test_a_held_face_outside_the_picture_is_looked_for_inside_it(finder, box):
    corners = np.array([[box[0], box[1], box[0] + box[2], box[1] + box[3]]])
    left, top, right, bottom = face_detector.surroundings(corners, (64, 48), 3)
    assert 0 <= left < right <= 64 and 0 <= top < bottom <= 48
    assert finder.follow(Image.new("RGB", (64, 48)), [Face(box, 1.0)]) == [None]


def test_the_crop_puts_the_face_where_the_rule_says():
    rule = CropRule(centre_x=0.4, centre_y=0.6, size=0.5)
    left, top, side = rule.square((100, 50, 40, 40))
    assert side == 80
    assert (120 - left) / side == pytest.approx(0.4)
    assert (70 - top) / side == pytest.approx(0.6)


def test_outside_the_picture_its_edge_goes_on():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    rule = CropRule(size=1.0)
    crop = np.asarray(rule(Image.fromarray(pixels), (-20, -10, 80, 80)))
    assert crop.shape == (80, 80, 3)
    assert (crop[10:60, 20:60] == pixels).all()
    assert (crop[10:60, :20] == pixels[:, :1]).all() and (crop[10:60, 60:] == pixels[:, -1:]).all()
    assert (crop[:10, 20:60] == pixels[:1]).all() and (crop[60:, 20:60] == pixels[-1:]).all()


@pytest.mark.parametrize("tilt", [0.0, 14.0, 16.0, -45.0, 90.0])
def test_every_crop_is_square_and_as_large_as_the_rule_says(astronaut, tilt):
    for box in (BOX, (-30, -30, 100, 100), (500, 500, 3, 3)):
        side = CropRule().square(box)[2]
        crop = CropRule()(astronaut, box, tilt)
        assert crop.width == crop.height and abs(crop.width - side) <= 2


@pytest.mark.parametrize(
    "rule", [CropRule(), CropRule(0.5, 0.6, 0.6), CropRule(0.4, 0.5, 0.5)], ids=str
)
def test_a_tilted_face_is_turned_about_itself(astronaut, rule):
    """Turned about the square's centre, a face beside that centre would leave its place."""
    tilted = astronaut.rotate(-40, Image.Resampling.BICUBIC, center=CENTRE)
    assert same(rule(tilted, BOX, tilt=40), rule(astronaut, BOX)) > 0.95


def test_a_rule_survives_its_trip_through_a_checkpoints_card():
    rule = CropRule(0.49, 0.5, 0.914, measured=179, upright_from=20)
    assert CropRule(**json.loads(json.dumps(rule.settings()))) == rule


@pytest.mark.parametrize("size", [0, -0.5, math.nan, "large"])
def test_a_rule_that_is_none_is_refused_before_the_first_face(size):
    """A stranger's card is read when the checkpoint loads; that is the time for a sentence."""
    with pytest.raises(ValueError, match="crop"):
        CropRule(size=size)


# --- measuring the crop ---


def cropped(picture, rule, count, mode):
    """Pictures of a data set: the face cut by a rule, moved and scaled a little."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        x, y = rng.integers(-3, 4, 2)
        jittered = CropRule(rule.centre_x, rule.centre_y, rule.size * rng.uniform(0.95, 1.05))
        crop = jittered(picture, (BOX[0] + int(x), BOX[1] + int(y), *BOX[2:]))
        yield crop.convert(mode).resize((48, 48) if mode == "L" else (120, 120))


@pytest.mark.parametrize(
    ("rule", "mode"),
    [(CropRule(0.48, 0.53, 0.914), "L"), (CropRule(0.52, 0.48, 0.5), "RGB")],
    ids=["tight", "loose"],
)
def test_the_rule_by_which_a_data_set_was_cropped_is_found_again(astronaut, rule, mode):
    measured = measure_crop(cropped(astronaut, rule, 9, mode))
    assert measured.measured == 9
    assert measured.centre_x == pytest.approx(rule.centre_x, abs=0.04)
    assert measured.centre_y == pytest.approx(rule.centre_y, abs=0.04)
    assert measured.size == pytest.approx(rule.size, rel=0.06)


def test_pictures_with_several_faces_say_nothing_about_the_crop(finder, astronaut, grass):
    pair = grass.copy()
    for x in (20, 330):
        pair.paste(astronaut.crop((165, 45, 285, 190)), (x, 100))
    assert measure_crop([astronaut, pair], finder).measured == 1


def test_most_is_the_number_of_pictures_looked_at(finder, astronaut):
    assert measure_crop(iter([astronaut] * 3), finder, most=2).measured == 2
    assert measure_crop([], finder) == CropRule()


def test_too_few_faces_give_the_default_rule_not_a_rule_from_a_handful(finder, astronaut, grass):
    """One find among many pictures without faces may well be a false one."""
    tiles = [grass.crop((x, 0, x + 160, 160)) for x in (0, 160, 320)]
    assert measure_crop([astronaut, *tiles], finder) == CropRule()
    assert measure_crop([astronaut, *tiles[:2]], finder).measured == 1


# --- its network ---


def test_without_its_network_one_sentence_names_the_file(monkeypatch, tmp_path):
    monkeypatch.setattr(face_detector, "DETECTOR", tmp_path / "faces.onnx")
    with pytest.raises(FileNotFoundError, match="faces.onnx") as caught:
        FaceFinder()
    assert "\n" not in str(caught.value)


def test_several_threads_may_search_with_one_finder(finder, astronaut):
    small = [astronaut.resize((side, side)) for side in (200, 240, 280, 320)] * 3
    wanted = [finder.search(picture) for picture in small]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(finder.search, small)) == wanted
