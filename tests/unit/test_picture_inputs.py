"""What the library takes as a picture, and as several: all that is meant, else a sentence.

A stub stands for the detector; the network is the committed one.
"""

import io
import pathlib
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from expression import pictures
from expression.faces import Face
from expression.pictures import as_picture, as_pictures, open_picture
from expression.predictor import ExpressionPredictor

BOX = (40, 20, 60, 60)
RGB = Image.effect_noise((160, 120), 60).convert("RGB")
RGB.paste((200, 30, 90), (0, 0, 20, 10))  # shows swapped channels
PIXELS = np.asarray(RGB)
BGR = np.ascontiguousarray(PIXELS[..., ::-1])
CHW = torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)


def png(image=RGB):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file  # its position is at its end, where people leave it


class Finder:
    """One face, always at the same place of the opened picture."""

    def find(self, image, tilted=True):
        assert isinstance(image, Image.Image) and image.mode in ("L", "RGB")
        return [Face(BOX, 0.9)]

    def find_batch(self, images):
        return [self.find(image) for image in images]

    def follow(self, image, faces):
        return list(faces)


@pytest.fixture(scope="module")
def predictor():
    return ExpressionPredictor(finder=Finder())


class OneWay(io.RawIOBase):
    """A file that cannot go back, as a pipe or an answer from the web."""

    def __init__(self, content):
        self.inner = io.BytesIO(content)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self.inner.readinto(buffer)


GIVEN = {
    "path": lambda at: at,
    "string": lambda at: str(at),
    "PIL": lambda at: RGB,
    "PIL, not read yet": lambda at: Image.open(at),
    "bytes": lambda at: at.read_bytes(),
    "bytearray": lambda at: bytearray(at.read_bytes()),
    "memoryview": lambda at: memoryview(at.read_bytes()),
    "BytesIO": lambda at: png(),
    "opened file": lambda at: at.open("rb"),
    "file without a way back": lambda at: OneWay(at.read_bytes()),
    "OpenCV": lambda at: BGR,
    "OpenCV, clear": lambda at: np.dstack([BGR, np.full((120, 160), 255, np.uint8)]),
    "tensor": lambda at: CHW,
    "tensor of floats": lambda at: CHW.float() / 255,
    "tensor that learns": lambda at: (CHW.double() / 255).requires_grad_(),
    "tensor of half floats": lambda at: (CHW / 255).bfloat16(),
}


@pytest.fixture
def face_file(tmp_path):
    (tmp_path / "face.png").write_bytes(png().getvalue())
    return tmp_path / "face.png"


@pytest.mark.parametrize("name", GIVEN)
def test_one_picture_may_be_given_in_any_of_these_forms(name, face_file, predictor):
    opened = open_picture(GIVEN[name](face_file))
    worst = 2 if "half" in name else 0  # eight bits of a float
    assert np.abs(np.asarray(opened, int) - PIXELS).max() <= worst
    (face,) = predictor.find(GIVEN[name](face_file))
    assert face.box == BOX
    (same,) = predictor.detect_emotions(GIVEN[name](face_file))
    assert same["box"] == BOX
    if worst == 0:
        assert predictor.predict(GIVEN[name](face_file)) == predictor.predict(RGB)
        (tracked,) = predictor.tracker()(GIVEN[name](face_file), 0.0)
        assert tracked.box == BOX and tracked.probs == pytest.approx(face.probs, abs=1e-6)


SEVERAL = {
    "list": [RGB, BGR, CHW],
    "tuple": (RGB, RGB, RGB),
    "generator": lambda: (picture for picture in [RGB, RGB, RGB]),
    "OpenCV batch": np.stack([BGR] * 3),
    "array of arrays": np.empty(3, dtype=object),  # of different heights
    "tensor batch": torch.stack([CHW] * 3),
    "batch of floats": torch.stack([CHW] * 3) / 255,
}
SEVERAL["array of arrays"][:] = [BGR, BGR, BGR[:60]]


@pytest.mark.parametrize("name", SEVERAL)
def test_several_pictures_may_be_given_in_any_of_these_forms(name, predictor):
    def given():
        return SEVERAL[name]() if callable(SEVERAL[name]) else SEVERAL[name]

    assert [image.size[0] for image in as_pictures(given())] == [160, 160, 160]
    assert as_pictures(given())[0].tobytes() == RGB.tobytes()
    assert [len(faces) for faces in predictor.find_batch(given())] == [1, 1, 1]
    assert len(predictor.predict_batch(given())) == 3
    assert [face.box[2] for face in predictor.predict_whole(given())] == [160] * 3


def test_a_batch_of_gray_pictures_is_several(predictor):
    gray = np.zeros((2, 48, 48), np.uint8)
    assert [image.mode for image in as_pictures(gray)] == ["L", "L"]
    assert len(predictor.predict_batch(torch.zeros(2, 1, 48, 48))) == 2


@pytest.mark.parametrize("empty", [[], (), iter(()), np.zeros((0, 8, 8, 3), np.uint8)])
def test_no_pictures_are_no_answers(empty, predictor):
    assert predictor.find_batch(empty) == predictor.predict_batch([]) == []


def wrong_ones():
    closed = png()
    closed.close()
    return {
        "None": (None, "None was given.*cv2.imread"),
        "list": ([RGB, RGB], "list of 2 was given.*find_batch"),
        "number": (3, "int was given.*give a path"),
        "dict": ({"bytes": b""}, "dict was given"),
        "class": (Image.Image, "type was given"),
        "empty bytes": (b"", "empty file"),
        "text file": (io.StringIO("face"), "opened as text"),
        "closed file": (closed, "closed file"),
        "batch": (np.stack([BGR, BGR]), r"shape \(2, 120, 160, 3\).*give uint8"),
        "floats": (BGR / 255.0, "float64; give uint8"),
        "strings": (np.array(["a.jpg"]), "dtype <U5; give uint8"),
        "empty array": (np.zeros((0, 5), np.uint8), r"shape \(0, 5\)"),
        "empty tensor": (torch.zeros(3, 0, 4), r"shape \(3, 0, 4\)"),
        "channels last": (
            torch.from_numpy(BGR.copy()),
            r"\(120, 160, 3\).*give uint8.*\(3, H, W\)",
        ),
        "normalised": ((CHW / 255 - 0.45) / 0.22, "values from -.*not normalised"),
        "floats to 255": (CHW.float(), "values from 0 to 255"),
        "not a number": (torch.full((3, 4, 4), float("nan")), "values from nan"),
        "integers": (CHW.long(), "int64; give uint8"),
        "batch of tensors": (torch.stack([CHW, CHW]), r"shape \(2, 3, 120, 160\)"),
        "folder": (pathlib.Path(), "is a folder"),
    }


@pytest.mark.parametrize("name", wrong_ones())
def test_what_is_no_picture_is_refused_in_a_sentence(name, predictor):
    # "'NoneType' object has no attribute 'convert'" tells nobody that the path was wrong
    wrong, reason = wrong_ones()[name]
    calls = (
        open_picture, as_picture, predictor.find, predictor.predict, predictor.detect_emotions,
        predictor.top_emotion, lambda given: predictor.tracker()(given, 0.0),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(ValueError, match=reason) as caught:
            call(wrong)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "one", [None, "face.png", b"\x89PNG", RGB, BGR, BGR[..., 0][..., None], CHW, CHW[0], png(), 5,
            {"a": RGB}, pathlib.Path("face.png")], ids=lambda one: type(one).__name__,
)  # fmt: skip
def test_one_picture_or_none_is_not_several(one, predictor):
    # A string is a sequence, too: its letters were looked for as files
    for call in (predictor.find_batch, predictor.predict_batch, predictor.predict_whole):
        with pytest.raises(ValueError, match="several"):
            call(one)


def test_one_wrong_picture_among_several_is_counted(predictor):
    for call in (predictor.find_batch, predictor.predict_batch, predictor.predict_whole):
        with pytest.raises(ValueError, match="picture 2 of 3: None was given"):
            call([RGB, None, RGB])
        with pytest.raises(FileNotFoundError, match="none.png"):
            call([RGB, "none.png"])


@pytest.mark.parametrize("box", [None, 5, (1, 2, 3), "none", (1, 2, None, 4), (0, 0, np.inf, 5)])
def test_what_is_no_box_is_refused_in_a_sentence(box, predictor):
    if box is not None:  # the whole picture
        with pytest.raises(ValueError, match="give .x, y, width, height"):
            predictor.predict(RGB, box)
    with pytest.raises(ValueError, match="give .x, y, width, height"):
        predictor.detect_emotions(RGB, [BOX, box])


@pytest.mark.parametrize("seconds", [None, "0.5", float("nan"), [0.0]])
def test_what_is_no_time_is_refused_in_a_sentence(seconds, predictor):
    with pytest.raises(ValueError, match="seconds is"):
        predictor.tracker()(RGB, seconds)


def test_a_stream_without_end_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="the opened file is larger"):
        open_picture(OneWay(bytes(5000)))


def test_a_picture_inside_an_archive_opens(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("face.png", png().getvalue())
    with zipfile.ZipFile(tmp_path / "a.zip") as archive, archive.open("face.png") as file:
        assert open_picture(file).size == (160, 120)


# --- boxes: in pixels of what was given ---


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A photo of 40 megapixels: its JPEG is decoded at a half."""
    path = tmp_path_factory.mktemp("large") / "photo.jpg"
    Image.new("L", (8000, 5000), 90).save(path)
    return path


def test_boxes_of_a_large_photo_are_in_pixels_of_its_file(large, predictor):
    # Whoever cuts the box out of their own copy of the file must meet the face
    twice = tuple(2 * value for value in BOX)
    for given in (large, str(large), large.read_bytes(), large.open("rb")):
        assert [face.box for face in predictor.find(given)] == [twice]
    assert [f.box for faces in predictor.find_batch([large, RGB]) for f in faces] == [twice, BOX]
    assert [answer["box"] for answer in predictor.detect_emotions(large)] == [twice]
    assert [face.box for face in predictor.tracker()(large, 0.0)] == [twice]
    assert [face.box for face in predictor.predict_whole([large])] == [(0, 0, 8000, 5000)]


def test_boxes_given_for_a_large_photo_are_in_pixels_of_its_file(large, predictor):
    corner = (7800, 4800, 150, 150)  # outside what was decoded
    assert predictor.detect_emotions(large, [corner])[0]["box"] == corner
    predictor.predict(large, corner)
    with pytest.raises(ValueError, match="no part of a 8000 × 5000 picture"):
        predictor.predict(large, (8001, 0, 10, 10))


def test_boxes_in_an_opened_picture_are_in_its_own_pixels(large, predictor):
    # It was made smaller before it was given: what it was made from is not known here
    opened = open_picture(large, longest=2048)
    assert opened.info["reduced"] == 2
    assert [face.box for face in predictor.find(opened)] == [BOX]
    assert [face.box for faces in predictor.find_batch([opened]) for face in faces] == [BOX]
    assert opened.info["reduced"] == 2  # and it stays as it was given


def test_what_is_given_is_not_copied_without_need_nor_changed():
    plain = Image.new("RGB", (8, 6))
    assert as_picture(plain) is plain
    exif = Image.Exif()
    exif[274] = 6
    file = io.BytesIO()
    plain.save(file, "PNG", exif=exif)
    turned = Image.open(file)
    copy = turned.copy()  # keeps the file's EXIF data
    assert as_picture(turned).size == as_picture(copy).size == (6, 8)
    assert turned.size == copy.size == (8, 6)
