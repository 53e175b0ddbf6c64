"""What must hold for every value: hypothesis looks for one that breaks it.

The same values on each run (`derandomize`), no clock, and nothing is written beside the tests.
"""

import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from expression.card import check_card
from expression.checkpoint import read_card, save_checkpoint
from expression.csv_cells import cell_of, text_of
from expression.face_prediction import FacePrediction, softmax
from expression.faces import CropRule, cut
from expression.files import shown
from expression.output_files import safe_stem
from expression.predictor import check_box
from expression.preprocessing import Preprocess
from expression.tables import COLUMNS, FaceTable
from tools.torture.cards import card as whole_card

quick = settings(
    derandomize=True, database=None, deadline=None, max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip

# --- values ---

names = st.text(min_size=1, max_size=30).filter(lambda text: text.strip() != "")
numbers = st.floats(-1e6, 1e6, allow_nan=False) | st.integers(-(10**6), 10**6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner,
                                                                max_size=4),
    max_leaves=12,
)  # fmt: skip
KEYS = sorted(whole_card("tinyvgg", {}))
sizes = st.integers(1, 40)
sides = st.integers(-60, 100)


@st.composite
def cards(draw):
    """A card that fits, with any names, numbers and further keys."""
    made = whole_card("tinyvgg", draw(st.dictionaries(names, numbers, max_size=3)))
    made["class_names"] = draw(st.lists(names, min_size=1, max_size=8, unique=True))
    shares = st.lists(st.floats(0, 1), min_size=len(made["class_names"]),
                      max_size=len(made["class_names"]))  # fmt: skip
    made["priors"] = draw(st.dictionaries(names, shares, max_size=2))
    made["temperature"] = draw(st.floats(1e-3, 1e3))
    made["min_confidence"] = draw(st.floats(0, 0.999))
    made["preprocess"]["size"] = draw(st.integers(1, 1024))
    made["notes"] = draw(st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3))
    return made


# --- cards ---


@quick
@given(card=cards())
def test_a_card_is_read_as_it_was_written(card, tmp_path):
    text = json.dumps(card).encode("utf-8", "surrogatepass")
    path = save_checkpoint(tmp_path / "a.safetensors", {"w": np.zeros(1)}, card)
    assert read_card(path) == json.loads(text)


@quick
@given(value=json_values)
@example(value=[[[]]])
@example(value={"class_names": {"a": 1}})
def test_any_json_is_a_card_or_refused_in_one_line(value):
    refused_or_same(value)


@quick
@given(key=st.sampled_from(KEYS), value=json_values)
def test_any_value_of_any_key_fits_or_is_refused_by_name(key, value):
    refused_or_same({**whole_card("tinyvgg", {}), key: value}, key)


def refused_or_same(card, key=""):
    try:
        assert check_card(card, "some.safetensors") is card
    except ValueError as error:
        words = str(error)
        assert words.startswith("some.safetensors ") and key in words and len(words) < 900
        assert "\n" not in shown(words)


# --- boxes and crops ---

boxes = st.tuples(sides, sides, st.integers(1, 90), st.integers(1, 90))
rules = st.builds(
    CropRule, centre_x=st.floats(0.2, 0.8), centre_y=st.floats(0.2, 0.8), size=st.floats(0.3, 2)
)


def picture(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@quick
@given(width=sizes, height=sizes, box=boxes, rule=rules, tilt=st.floats(-180, 180))
def test_every_crop_is_a_square_of_the_rules_side(width, height, box, rule, tilt):
    crop = rule(picture(width, height), box, tilt)
    assert crop.size == (max(round(rule.square(box)[2]), 1),) * 2 and crop.mode == "RGB"


@quick
@given(width=sizes, height=sizes, left=sides, top=sides, side=st.integers(1, 60))
def test_outside_a_picture_its_edge_is_repeated(width, height, left, top, side):
    image = picture(width, height)
    pixels, crop = np.asarray(image), np.asarray(cut(image, left, top, side))
    rows = np.clip(np.arange(top, top + side), 0, height - 1)
    columns = np.clip(np.arange(left, left + side), 0, width - 1)
    assert np.array_equal(crop, pixels[rows][:, columns])


@quick
@given(dx=st.integers(0, 20), dy=st.integers(0, 20), rule=rules)
def test_a_face_that_moves_gives_the_same_crop(dx, dy, rule):
    # A crop that depends on where the face stands would change the answer with it
    face, wide = picture(30, 30), Image.new("RGB", (200, 200))
    first, second = wide.copy(), wide.copy()
    first.paste(face, (80, 80))
    second.paste(face, (80 + dx, 80 + dy))
    ours, theirs = rule(first, (80, 80, 30, 30)), rule(second, (80 + dx, 80 + dy, 30, 30))
    left, top, _ = rule.square((80, 80, 30, 30))
    halves = {abs(value % 1 - 0.5) < 1e-9 for value in (left, top)}
    assert ours.size == theirs.size
    assert True in halves or np.array_equal(np.asarray(ours), np.asarray(theirs))


@quick
@given(
    width=sizes, height=sizes, box=boxes, kind=st.sampled_from([int, float, np.int64, np.float32])
)
def test_a_box_of_any_numbers_is_the_same_box(width, height, box, kind):
    image = picture(width, height)

    def checked(given_box):
        try:
            return tuple(map(float, check_box(given_box, image)))
        except ValueError:
            return None

    assert checked(tuple(map(kind, box))) == checked(box)


@quick
@given(box=json_values)
def test_what_is_no_box_is_refused(box):
    try:
        found = check_box(box, picture(20, 20))
    except ValueError as error:
        assert str(error)
    else:
        assert len(found) == 4 and all(math.isfinite(value) for value in found)


# --- tables ---


@quick
@given(text=st.text(max_size=40))
@example(text="=1+1")
@example(text="'=1+1")
@example(text="\t@a")
def test_a_cell_gives_its_text_again_and_is_no_formula(text):
    cell = cell_of(text)
    assert text_of(cell) == text
    assert not cell.lstrip().startswith(("=", "+", "-", "@"))
    assert cell == text or cell == f"'{text}"


strange = st.text(st.characters(), min_size=1, max_size=30)  # lone surrogates too


@quick
@given(source=strange, labels=st.lists(strange, min_size=1, max_size=4, unique=True),
       box=boxes, logits=st.lists(st.floats(-30, 30), min_size=4, max_size=4))  # fmt: skip
def test_a_table_is_read_as_it_was_written(source, labels, box, logits):
    probs = dict(
        zip(labels, map(float, softmax(np.array([logits[: len(labels)]]))[0]), strict=True)
    )
    file = io.StringIO(newline="")
    table = FaceTable(file, labels)
    table.add(source, [FacePrediction(box, probs, 0.9)], seconds=1.5)
    table.add_empty(source)
    file.seek(0)
    head, row, empty = csv.reader(file)
    assert [text_of(cell) for cell in head[len(COLUMNS) :]] == labels
    told = dict(zip(head, row, strict=True))
    assert text_of(told["source"]) == text_of(empty[0]) == shown(source)
    assert tuple(int(told[name]) for name in ("x", "y", "width", "height")) == box
    shares = [float(cell) for cell in row[len(COLUMNS) :]]
    assert shares == pytest.approx(list(probs.values()), abs=1e-4)


@quick
@given(name=strange)
def test_a_name_that_is_shown_is_one_line_of_utf_8(name):
    text = shown(name)
    assert len(text.splitlines()) == 1 and text.encode("utf-8")
    assert not any(ord(c) < 32 or c in "\u202a\u202e\u2066\x7f" for c in text)


@quick
@given(text=st.text(max_size=60))
def test_a_file_name_from_a_card_stays_in_its_folder(text):
    stem = safe_stem(text)
    assert stem and stem not in (".", "..") and not set(stem) & set("/\\\0:")


# --- preprocessing ---


@quick
@given(
    width=sizes, height=sizes, size=st.integers(1, 64), resize=st.sampled_from(["squash", "crop"]),
    mode=st.sampled_from(["L", "RGB", "RGBA", "P", "1", "I;16", "F", "CMYK", "LA"]),
    rule=st.sampled_from([("L", 1), ("L", 3), ("RGB", 3)]),
)  # fmt: skip
def test_every_picture_becomes_what_the_network_takes(width, height, size, resize, mode, rule):
    grey = picture(width, height).convert("L")
    image = grey if mode == "L" else (
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16"
        else grey.convert(mode)
    )  # fmt: skip
    how = Preprocess(size, *rule, mean=(0.5,), std=(0.25,), resize=resize)
    made = how.batch([image, image])
    assert made.shape == (2, rule[1], size, size) and made.dtype == np.float32
    assert np.isfinite(made).all() and -2 <= made.min() and made.max() <= 2
    assert np.array_equal(made[0], made[1])
