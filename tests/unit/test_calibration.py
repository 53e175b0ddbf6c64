"""lab/calibration.py: temperature, calibration error, risk and threshold, by values worked out by
hand; and what of it a checkpoint's card holds."""

import json

import numpy as np
import pytest
import torch

from expression.card import check_card
from lab import calibration
from lab.calibration import (
    FEWEST_FACES,
    calibrate,
    choose_threshold,
    expected_calibration_error,
    fit_temperature,
    logits_of,
    mean_loss,
    reliability_bins,
    risk_coverage,
)


def two_classes(confidence: list[float]) -> np.ndarray:
    """Probabilities (N, 2) of faces for which class 0 is answered with this confidence."""
    top = np.array(confidence)
    return np.stack([top, 1 - top], axis=1)


def said(count: int, right: int, confidence: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of `count` faces, all answered with one confidence, `right` rightly."""
    return np.log(two_classes([confidence] * count)), (np.arange(count) >= right).astype(int)


# --- temperature ---


def test_temperature_brings_confidence_to_accuracy() -> None:
    # 0.9 is said, 0.75 are right: logit difference ln 9 must become ln 3, so it is halved.
    logits, labels = said(400, 300)
    assert fit_temperature(logits, labels) == pytest.approx(2.0, abs=1e-3)
    # 0.75 is said, 0.9 are right: an under-confident network gets a temperature below 1
    assert fit_temperature(*said(400, 360, 0.75)) == pytest.approx(0.5, abs=1e-3)


def test_shares_of_votes_fit_as_labels_with_these_shares_do() -> None:
    logits = np.log(two_classes([0.9] * 3))
    shares = np.array([[0.75, 0.25], [0.75, 0.25], [0, 0]])  # nobody voted for the third
    assert fit_temperature(logits, shares) == pytest.approx(2.0, abs=1e-3)
    assert mean_loss(logits, shares) == pytest.approx(-0.75 * np.log(0.9) - 0.25 * np.log(0.1))


def test_temperature_never_changes_an_answer_and_takes_tensors() -> None:
    torch.manual_seed(0)
    logits, labels = 3 * torch.randn(500, 7), torch.randint(0, 7, (500,))
    temperature = fit_temperature(logits, labels)
    assert temperature > 2  # random answers, said with confidence
    assert torch.equal((logits / temperature).argmax(1), logits.argmax(1))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(2,\)"):
        fit_temperature(np.zeros((3, 2)), np.zeros(2, int))
    with pytest.raises(ValueError, match=r"\(0, 2\)"):
        fit_temperature(np.zeros((0, 2)), np.zeros(0, int))


def test_stored_probabilities_give_the_same_temperature_as_the_logits() -> None:
    # float16 rounds the smallest ones to 0, whose logarithm would be −∞
    rng = np.random.default_rng(0)
    logits = 2.5 * rng.normal(size=(1000, 7))
    labels = logits.argmax(1)
    labels[::3] = rng.integers(0, 7, len(labels[::3]))
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    stored = logits_of(probs.astype(np.float16))
    assert np.isfinite(stored).all()
    assert fit_temperature(stored, labels) == pytest.approx(fit_temperature(logits, labels), 0.01)


# --- calibration error ---


def test_calibration_error_by_hand() -> None:
    # bin (0.6, 0.667]: 2 faces, mean 0.63, half right; bin (0.867, 0.933]: 2 faces, 0.9, all right
    probs, labels = two_classes([0.62, 0.64, 0.9, 0.9]), np.array([0, 1, 0, 0])
    bins = reliability_bins(probs, labels)
    assert bins.counts[9] == 2 and bins.counts[13] == 2 and bins.counts.sum() == 4
    assert bins.confidence[9] == pytest.approx(0.63) and bins.accuracy[9] == 0.5
    assert np.isnan(bins.accuracy[0])
    expected = 0.5 * 0.13 + 0.5 * 0.1
    assert expected_calibration_error(probs, labels) == pytest.approx(expected)


def test_a_bin_ends_at_its_upper_edge_and_certainty_is_in_the_last() -> None:
    counts = reliability_bins(two_classes([0.6, 0.61, 1.0]), np.zeros(3, int), 5).counts
    assert counts.tolist() == [0, 0, 1, 1, 1]


def test_no_faces_have_no_calibration_error() -> None:
    with pytest.raises(ValueError, match="no faces"):
        reliability_bins(np.zeros((0, 2)), np.zeros(0, int))


# --- risk, coverage, threshold ---


def test_risk_grows_with_coverage_by_hand() -> None:
    probs, labels = two_classes([0.7, 0.9, 0.8, 0.6]), np.array([1, 0, 0, 0])
    coverage, risk = risk_coverage(probs, labels)  # surest first: right, right, wrong, right
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk.tolist() == pytest.approx([0, 0, 1 / 3, 0.25])


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small examples: two answers are enough."""
    monkeypatch.setattr(calibration, "FEWEST_ANSWERED", 2)


@pytest.mark.usefixtures("few")
def test_the_threshold_is_the_smallest_that_keeps_the_risk() -> None:
    probs, labels = two_classes([0.6, 0.7, 0.8, 0.9]), np.array([1, 1, 0, 0])
    # answered from 0.7 on: 1 of 3 wrong; the next step leaves 0.8 and 0.9
    chosen = choose_threshold(probs, labels, 0.2)
    assert chosen == (0.701, 2, 0)
    assert choose_threshold(probs, labels, 1 / 3) == (0.601, 3, 1)
    assert choose_threshold(probs, labels, 0.5) == (0.0, 4, 2)  # every face is answered


@pytest.mark.usefixtures("few")
def test_a_face_at_the_threshold_is_answered() -> None:
    # The smallest threshold lies just above the mistake's 0.65: 0.651, with no gap behind it
    probs, labels = two_classes([0.65, 0.651, 0.7]), np.array([1, 0, 0])
    assert choose_threshold(probs, labels, 0.1) == (0.651, 2, 0)


def test_a_threshold_that_leaves_hardly_any_face_is_none() -> None:
    # 10 sure and right, 190 guesses half right: only the ten keep the risk, by chance
    probs = two_classes([0.99] * 10 + [0.55] * 190)
    labels = np.array([0] * 10 + [0, 1] * 95)
    assert choose_threshold(probs, labels, 0.2) is None
    with pytest.raises(ValueError, match="risk"):
        choose_threshold(probs, labels, 0)


# --- all of it, and the card ---


def card_with(part: dict) -> dict:
    return {
        "system": "tinyvgg", "class_names": ["happy", "sad"], "data": {"name": "x",
        "fingerprint": "0"}, "preprocess": {"size": 48, "channels": 1, "mode": "L"}, **part,
    }  # fmt: skip


def test_a_calibrated_card_holds_both_errors_and_the_coverage() -> None:
    # 0.9 said, 300 of 400 right; and 100 faces at 0.6 of which 50 are right
    parts = [said(400, 300), said(100, 50, 0.6)]
    logits, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    told = calibrate(logits, labels, data="faces", truth="label", risk=0.25)
    part = told.for_card()
    assert check_card(json.loads(json.dumps(card_with(part))), "x")
    assert part["calibration"] | {
        "data": "faces", "split": "validation", "truth": "label", "n": 500, "risk": 0.25,
        "answered": 400, "mistakes": 100, "coverage": 0.8, "temperature": part["temperature"],
        "min_confidence": part["min_confidence"],
    } == part["calibration"]  # fmt: skip
    # before: 400 faces 15 points too sure, 100 faces 10 points
    assert part["calibration"]["ece_before"] == pytest.approx(0.8 * 0.15 + 0.2 * 0.1)
    assert part["calibration"]["ece_after"] < 0.05 and part["temperature"] > 1.5
    assert part["calibration"]["loss_after"] < part["calibration"]["loss_before"]


def test_the_risk_follows_the_truth_and_faces_without_one_do_not_count() -> None:
    logits, labels = said(300, 270)
    labels[:60] = -1
    told = calibrate(logits, labels, data="faces", truth="majority")
    assert (told.n, told.risk) == (240, 0.10)
    assert calibrate(logits, labels, data="faces", truth="label").risk == 0.20


def test_too_few_faces_leave_the_network_as_it_is_and_say_so() -> None:
    told = calibrate(*said(FEWEST_FACES - 1, 100), data="faces", truth="label").for_card()
    assert (told["temperature"], told["min_confidence"]) == (1.0, 0.0)
    assert str(FEWEST_FACES - 1) in told["calibration"]["note"]
    assert "ece_before" not in told["calibration"]
    enough = calibrate(*said(FEWEST_FACES, 190), data="faces", truth="label")
    assert enough.note == "" and enough.temperature != 1


def test_where_no_threshold_keeps_the_risk_every_face_is_answered_and_the_card_says_so() -> None:
    told = calibrate(*said(300, 150, 0.6), data="faces", truth="label")
    assert (told.min_confidence, told.answered, told.mistakes) == (0.0, 300, 150)
    assert "20 %" in told.note
