"""lab/face_slices.py: groups that are measured, counted by hand on drawn pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lab import face_slices
from lab.results import Results


def flat(gray: int) -> Image.Image:
    return Image.new("L", (48, 48), gray)


def test_a_blurred_picture_is_less_sharp_and_a_dark_one_is_not() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (48, 48)).astype(np.uint8)
    sharp = Image.fromarray(noise)
    blurred = sharp.resize((12, 12), Image.Resampling.BOX).resize((48, 48))
    dark = Image.fromarray(noise // 4)
    told = face_slices.measure_pictures([sharp, blurred, dark])
    assert told["sharpness"][1] < 0.2 * told["sharpness"][0]
    assert told["sharpness"][2] == pytest.approx(told["sharpness"][0], rel=0.05)
    assert told["brightness"][2] == pytest.approx(told["brightness"][0] / 4, rel=0.05)


def test_a_picture_without_a_face_has_no_size_and_no_tilt() -> None:
    told = face_slices.measure_pictures([flat(0), flat(200)])
    assert np.isnan(told["size"]).all() and np.isnan(told["tilt"]).all()
    assert told["brightness"].tolist() == [0, 200]


def test_every_face_is_in_one_quarter_or_has_no_value() -> None:
    values = np.append(np.arange(200.0), [np.nan] * 40)
    groups = face_slices.quartiles(values)
    assert [int(chosen.sum()) for chosen in groups.values()] == [50, 50, 50, 50, 40]
    assert (np.sum(list(groups.values()), axis=0) == 1).all()
    few = face_slices.quartiles(np.append(np.arange(200.0), [np.nan] * 5))
    assert len(few) == 4  # five faces are no group


def test_where_no_face_is_found_there_is_one_group_or_none() -> None:
    groups = face_slices.quartiles(np.full(40, np.nan))
    assert [int(chosen.sum()) for chosen in groups.values()] == [40]
    assert face_slices.quartiles(np.full(5, np.nan)) == face_slices.quartiles(np.zeros(0)) == {}


@pytest.mark.parametrize("right", [0, 1])
def test_groups_that_are_all_right_or_all_wrong_do_not_differ(right: int) -> None:
    groups = {"a": {"net": [40 * right, 40]}, "b": {"net": [50 * right, 50]}}
    assert face_slices.unequal(groups, "net", 1) == 1


def test_votes_group_faces_by_the_most_voted_class() -> None:
    votes = np.array([[10, 0], [5, 5], [2, 1], [7, 3]])
    groups = face_slices.agreement_groups(votes)
    assert {name: chosen.tolist().index(True) for name, chosen in groups.items() if chosen.any()} \
        == {"10": 0, "5": 1, "0–4": 2, "7": 3}  # fmt: skip


def test_a_face_without_a_majority_counts_in_no_share() -> None:
    right = {"crowd": np.array([1, 0, -1, -1])}
    groups = {"all": np.ones(4, bool), "none": np.array([False, False, True, True])}
    assert face_slices.counted(groups, right) == {"all": {"crowd": [1, 2]}}


def test_many_tests_make_a_difference_less_certain() -> None:
    groups = {"a": {"net": [60, 100]}, "b": {"net": [45, 100]}}
    one, five = (face_slices.unequal(groups, "net", tests) for tests in (1, 5))
    assert one < 0.05 < five == pytest.approx(5 * one)
    assert face_slices.unequal({"a": {"net": [5, 10]}, "b": {"net": [5, 10]}}, "net", 9) == 1


def test_votes_are_found_beside_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FERPLUS_VOTES", raising=False)
    (data := tmp_path / "fer2013").mkdir()
    assert face_slices.find_votes(data) is None
    (file := tmp_path / "ferplus" / "fer2013new.csv").parent.mkdir()
    file.write_text("")
    assert face_slices.find_votes(data) == file
    monkeypatch.setenv("FERPLUS_VOTES", str(tmp_path / "other.csv"))
    assert face_slices.find_votes(data) == tmp_path / "other.csv"


def test_a_file_that_is_cut_short_is_named(tmp_path: Path) -> None:
    for content in ('{"slices": {', json.dumps({"slices": {}})):
        (tmp_path / "slices-x.json").write_text(content)
        with pytest.raises(ValueError, match="slices-x.json"):
            face_slices.read(Results(tmp_path), "x")
