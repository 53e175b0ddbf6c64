"""Corruptions: the same face is always changed in the same way, and more at each severity."""

import numpy as np
import pytest
from PIL import Image

from lab.corruptions import EYES, MOUTH, SEVERITIES, SIDE, UNITS, corrupt
from lab.datasets.synthetic import EXPRESSIONS, draw_face


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    """24 drawn faces (24, 48, 48) uint8."""
    drawn = [draw_face(EXPRESSIONS[k % 7], np.random.default_rng(k), SIDE) for k in range(24)]
    return np.stack([np.asarray(face.convert("L")) for face in drawn])


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Root of the mean squared difference, in gray levels."""
    return float(np.sqrt(((one.astype(float) - other) ** 2).mean()))


@pytest.mark.parametrize("name", SEVERITIES)
def test_severity_0_is_the_picture_itself(faces: np.ndarray, name: str) -> None:
    same = corrupt(faces, name, 0)
    assert np.array_equal(same, faces)
    same[:] = 0  # a copy: what is done to it must not reach the data
    assert faces.any()


@pytest.mark.parametrize("name", SEVERITIES)
def test_each_severity_is_farther_from_the_picture(faces: np.ndarray, name: str) -> None:
    far = [distance(corrupt(faces, name, level), faces) for level in range(6)]
    assert far == sorted(far) and len(set(far)) == 6, far


@pytest.mark.parametrize("name", SEVERITIES)
def test_a_face_is_changed_alike_in_any_order(faces: np.ndarray, name: str) -> None:
    # Noise from one running state would change with the batch size and between two networks.
    whole = corrupt(faces, name, 3)
    assert whole.dtype == np.uint8 and whole.shape == faces.shape
    assert np.array_equal(corrupt(faces[::-1], name, 3)[::-1], whole)
    assert np.array_equal(corrupt(faces[5:6], name, 3), whole[5:6])


def test_directions_differ_between_faces() -> None:
    # A crop that is always too low would test one mistake of a detector, not all.
    rng, ramp = np.random.default_rng(0), np.arange(SIDE)
    plain = np.tile(ramp * 4, (64, SIDE, 1)) + rng.integers(0, 3, (64, SIDE, SIDE))
    moved = corrupt(plain.astype(np.uint8), "shift", 3).mean((1, 2)) - plain.mean((1, 2))
    assert (moved > 5).any() and (moved < -5).any()
    sized = corrupt(plain.astype(np.uint8), "scale", 3).std((1, 2)) - plain.std((1, 2))
    assert (sized > 2).any() and (sized < -2).any()


@pytest.mark.parametrize(("name", "boxes"), [("eyes_covered", EYES), ("mouth_covered", MOUTH)])
def test_covers_hide_their_box_and_nothing_else(faces: np.ndarray, name: str, boxes) -> None:
    top, bottom, left, right = boxes[2]
    changed = corrupt(faces, name, 3)
    inside = np.zeros((SIDE, SIDE), bool)
    inside[top:bottom, left:right] = True
    assert np.array_equal(changed[:, ~inside], faces[:, ~inside])
    assert (changed[:, inside].std(1) == 0).all()
    for small, large in zip(boxes, boxes[1:], strict=False):  # nested: more is hidden each time
        assert large[0] <= small[0] and large[1] >= small[1]
        assert large[2] <= small[2] and large[3] >= small[3]


def test_the_amounts_are_what_they_say() -> None:
    gray = np.full((1, SIDE, SIDE), 128, np.uint8)
    level = 2
    assert corrupt(gray, "darkness", level).mean() == round(128 * SEVERITIES["darkness"][1])
    noisy = corrupt(gray, "noise", level).astype(float)
    assert noisy.std() == pytest.approx(255 * SEVERITIES["noise"][1], rel=0.05)
    assert abs(noisy.mean() - 128) < 2
    edge = np.zeros((1, SIDE, SIDE), np.uint8)
    edge[:, :, 24:] = 255
    blurred = np.diff(corrupt(edge, "blur", 4)[0, 24].astype(float))  # a Gaussian's own shape
    middle = (blurred * np.arange(47)).sum() / blurred.sum()
    width = np.sqrt((blurred * (np.arange(47) - middle) ** 2).sum() / blurred.sum())
    assert width == pytest.approx(SEVERITIES["blur"][3], rel=0.15)


def test_every_corruption_has_five_severities_and_a_unit() -> None:
    assert all(len(amounts) == 5 for amounts in SEVERITIES.values())
    assert SEVERITIES.keys() == UNITS.keys()


@pytest.mark.parametrize(
    ("name", "severity", "shape", "told"),
    [
        ("fog", 1, (1, SIDE, SIDE), "fog"),
        ("blur", 6, (1, SIDE, SIDE), "6"),
        ("blur", 1, (1, 64, 64), "64"),
    ],
)
def test_what_cannot_be_corrupted_is_named(name: str, severity: int, shape, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        corrupt(np.zeros(shape, np.uint8), name, severity)


def test_pillow_keeps_gray_files_gray() -> None:
    # JPEG of a gray picture has one channel; a colour one would not fit the network.
    assert corrupt(np.asarray(Image.new("L", (SIDE, SIDE)))[None], "jpeg", 5).ndim == 3
