"""lab/evidence.py: who is right about which faces, and what a difference needs, all by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lab import evidence
from lab.metrics import Evaluation
from lab.published_figures import KINDS, PUBLISHED
from lab.results import FaceProbabilities, Key, MeasuredNetwork, Result, Results

RESULTS = Path(evidence.__file__).parents[1] / "results"
NAMES = ("anger", "happy", "neutral")


def add(kept: Results, name: str, data: str, labels: list[int], preds: list[int],
        rows: list[int] | None = None, digest: str = "") -> None:  # fmt: skip
    """Store the answers of a network that is always 0.8 sure."""
    probs = np.full((len(preds), 3), 0.1, np.float32)
    probs[np.arange(len(preds)), preds] = 0.8
    shared = [number == 0 for number in range(len(preds))]
    answers = FaceProbabilities.of(probs, labels, rows or range(len(preds)), shared)
    network = MeasuredNetwork(name, digest or f"sha of {name}", {"class_names": list(NAMES)}, 1)
    told = Evaluation(answers.confusion(), NAMES, 1.0)
    key = Key(network.sha256, f"print of {data}", "validation", "plain")
    kept.add(network, Result(key, data, told, "x", "x", "x", "x"), answers)


@pytest.fixture
def kept(tmp_path: Path) -> Results:
    kept = Results(tmp_path)
    add(kept, "ours", "faces", [0, 1, 2, 2], [0, 1, 2, 0])
    add(kept, "theirs", "faces", [0, 1, 2, 2], [1, 1, 1, 1])
    return kept


def test_answers_come_by_name_whatever_the_order_of_the_classes(kept: Results) -> None:
    told = evidence.stored_answers(kept, "faces")["ours"]
    assert told.labels.tolist() == ["angry", "happy", "neutral", "neutral"]  # anger is angry
    assert told.right.tolist() == [True, True, True, False]
    assert told.in_train.tolist() == [True, False, False, False]
    assert evidence.stored_answers(kept, "faces", "test") == {}


def test_two_networks_of_one_name_are_named_and_neither_wins(kept: Results) -> None:
    # The answers of the one whose folder came last stood for both
    add(kept, "ours", "faces", [0, 1, 2, 2], [0, 0, 0, 0], digest="b" * 64)
    with pytest.raises(ValueError) as refused:
        evidence.stored_answers(kept, "faces")
    for folder in ("ours", f"ours-{'b' * 12}"):
        assert str(kept.folder / folder / "faces-") in str(refused.value)
    assert evidence.stored_answers(kept, "other faces") == {}


def test_the_majority_has_a_gap_where_the_crowd_has_none(kept: Results) -> None:
    with pytest.raises(ValueError, match="faces-majority"):
        evidence.crowd_majority(kept, "faces")
    add(kept, "ours", "faces-majority", [1, 2], [1, 2], rows=[1, 3])
    assert evidence.crowd_majority(kept, "faces").tolist() == ["", "happy", "", "neutral"]
    add(kept, "theirs", "faces-majority", [1, 1], [1, 2], rows=[1, 3])
    with pytest.raises(ValueError, match="theirs"):
        evidence.crowd_majority(kept, "faces")


def test_mean_recall_counts_each_class_the_same() -> None:
    # 9 of 10 happy and 0 of 1 sad: accuracy says 0.82, the mean recall 0.45
    labels = np.array(["happy"] * 10 + ["sad"])
    preds = np.array(["happy"] * 9 + ["sad"] + ["happy"])
    assert evidence.mean_recall(labels, preds) == pytest.approx(0.45)
    assert evidence.mean_recall(labels, preds, without=["sad"]) == pytest.approx(0.9)


def test_a_difference_of_mean_recall_hangs_on_the_class_with_few_faces() -> None:
    labels = np.repeat(["happy", "neutral", "fear", "disgust"], [400, 400, 3, 5])
    ours, theirs = labels.copy(), labels.copy()
    ours[:40] = "neutral"  # 10 % of happy faces
    found, low, high = evidence.recall_difference(labels, ours, theirs, ["disgust"])
    assert found == pytest.approx(-0.1 / 3) and low < found < high < 0
    theirs[800:802] = "happy"  # two of three faces of fear
    wide = evidence.recall_difference(labels, ours, theirs, ["disgust"])
    assert wide[0] == pytest.approx(2 / 9 - 0.1 / 3) and wide[2] - wide[1] > 10 * (high - low)
    ours[805:] = "happy"  # left out
    assert evidence.recall_difference(labels, ours, theirs, ["disgust"]) == wide


def test_a_gap_that_is_only_another_mix_of_classes_disappears() -> None:
    # Happy is always right, sad never. Half of these are happy, of the others nine in ten.
    labels = np.array(["happy", "happy", "sad", "sad"])
    like = np.array(["happy"] * 9 + ["sad"])
    assert evidence.same_class_mix(labels == "happy", labels, like) == pytest.approx(0.9)
    with pytest.raises(ValueError, match="fear"):
        evidence.same_class_mix(labels == "happy", labels, np.array(["fear"]))


def test_class_shares_are_exchanged_by_bayes_rule() -> None:
    # Odds of 1 : 1 learnt with equal shares are odds of 3 : 1 where one class is three times as
    # frequent; and unlabelled faces of a network that is always sure tell their shares exactly.
    before, after = np.array([0.5, 0.5]), np.array([0.75, 0.25])
    shifted = evidence.shift_prior(np.array([[0.5, 0.5]]), before, after)
    assert shifted == pytest.approx(np.array([[0.75, 0.25]]))
    sure = np.array([[1.0, 0.0]] * 3 + [[0.0, 1.0]])
    assert evidence.estimate_prior(sure, before) == pytest.approx(after, abs=1e-5)
    assert evidence.shares({"a": 3, "b": 1}, ("b", "a")).tolist() == [0.25, 0.75]


def test_half_the_difference_needs_four_times_the_faces() -> None:
    need = {d: evidence.faces_for_difference(d, 0.15) for d in (0.005, 0.01, 0.05)}
    assert need[0.005] / need[0.01] == pytest.approx(4, rel=0.01)
    # (1.95996 · √0.15 + 0.84162 · √(0.15 − 0.05²))² / 0.05² = 468.6
    assert need[0.05] == 469
    with pytest.raises(ValueError, match="do not fit"):  # networks that differ on fewer faces
        evidence.faces_for_difference(0.2, 0.15)


def test_the_promised_power_is_reached_when_it_is_tried() -> None:
    # Not the formula again: 600 drawn comparisons, each by McNemar's test
    from benchmarks.paired_answers import mcnemar

    draw, found = np.random.default_rng(0), 0
    faces = evidence.faces_for_difference(0.05, 0.15)
    for _ in range(600):
        kind = draw.choice(3, size=faces, p=(0.10, 0.05, 0.85))  # ours alone, theirs alone, both
        found += mcnemar(kind != 1, kind != 0)["p"] < 0.05
    assert 0.72 < found / 600 < 0.86  # 0.8 promised; the exact test is a little more careful


def test_one_run_says_nothing_about_its_spread() -> None:
    assert evidence.half_width(1.0, 1) == np.inf
    assert evidence.half_width(1.0, 2) == pytest.approx(8.98, abs=0.01)  # 12.706 / √2
    assert evidence.half_width(1.0, 3) == pytest.approx(2.48, abs=0.01)  # 4.303 / √3
    # A difference of one standard deviation: ten pairs, as in any table of the paired t test
    assert evidence.seeds_for_difference(1.0, 1.0) == 10
    with pytest.raises(ValueError, match="more than 3 pairs"):
        evidence.seeds_for_difference(0.1, 1.0, most=3)


def test_the_best_of_many_equal_candidates_looks_better_than_each() -> None:
    one = evidence.best_of(1, 3589, 0.7, 0.06)
    best = evidence.best_of(250, 3589, 0.7, 0.06)
    assert one.mean() == pytest.approx(0.7, abs=0.001)
    assert one.std() == pytest.approx((0.21 / 3589) ** 0.5, rel=0.05)
    assert 0.005 < best.mean() - 0.7 < 0.012  # 2.8 · √(0.03 / 3589) = 0.008
    with pytest.raises(ValueError, match="cannot disagree"):
        evidence.best_of(2, 100, 0.7, 0.5)


def test_contempt_and_faces_of_training_have_no_confidence_to_judge(tmp_path: Path) -> None:
    words = ("neutral", "contempt", "sad")
    probs = np.array([[0.6, 0.0, 0.4], [0.1, 0.0, 0.9], [0.7, 0.0, 0.3]])
    labels, seen = np.array(["neutral", "sad", "contempt"]), np.array([True, False, False])
    told = evidence.FaceAnswers("x", words, labels, labels, probs, seen, np.arange(3))
    kept, truth = told.known()
    assert kept.tolist() == [[0.1, 0.9]] and truth.tolist() == [1]
    assert told.named(probs).tolist() == ["neutral", "sad", "neutral"]
    assert told.count(~seen) == (2, 2) and told.count(~seen, np.array(["", "", "sad"])) == (0, 2)


def test_a_duplicate_gap_is_told_with_and_without_the_other_mix_of_classes() -> None:
    # Happy is always right, sad never; three of four duplicates are happy, one of two others.
    labels = np.array(["happy"] * 3 + ["sad"] + ["happy", "sad"])
    preds, seen = np.array(["happy"] * 6), np.array([True] * 4 + [False] * 2)
    probs = np.ones((6, 1))
    told = evidence.FaceAnswers("x", ("happy",), labels, preds, probs, seen, np.arange(6))
    assert evidence.duplicate_gap(told) == pytest.approx((100 * 4 / 6, 50, 25, 0))


def test_trials_come_best_first_without_the_base_and_one_pair_has_no_interval() -> None:
    def arm(mean: float, **more: object) -> dict[str, object]:
        return {"answers": {"combined": {"accuracy": {"mean": mean} | more}}}

    titles = {name: {"title": name.upper()} for name in ("base", "a", "b")}
    arms = {"base": arm(0.0, sd=0.0, interval_95=[0, 0]), "a": arm(0.01),
            "b": arm(0.02, sd=0.1, interval_95=[-0.01, 0.05])}  # fmt: skip
    trials = {"settings": {"arms": titles}, "arms": arms}
    told = evidence.trial_differences(trials)
    assert list(told) == ["B", "A"] and told["A"] == (1.0, None, None)
    assert told["B"] == pytest.approx((2, -1, 5))
    assert evidence.trial_intervals(trials) == [(-0.01, 0.05)]


def test_minutes_of_all_stages_count_and_teachers_are_told(tmp_path: Path) -> None:
    kept = Results(tmp_path)
    data = {"data": {"name": "fer2013"}, "minutes": 5.0, "history": {}}
    cards = {
        "alone": data | {"command": "train alone"},
        "taught": data | {"command": "train --teacher x"},
        "by recipe": data | {"command": "train", "recipe": {"teacher": "x"}, "hardware": "cpu"},
        "on a GPU": data | {"command": "train", "hardware": "NVIDIA H200"},
        "staged": data | {"command": "train", "stages": [{"minutes": 20.0, "epochs": 2}]},
        "other": data | {"command": "train", "data": {"name": "muxspace"}},
    }
    for name, card in cards.items():
        kept.add_network(MeasuredNetwork(name, name, card, 1))
    assert evidence.training_minutes(kept) == {
        "alone": (5.0, False), "by recipe": (5.0, True), "staged": (25.0, True),
        "taught": (5.0, True),
    }  # fmt: skip


def test_every_published_figure_has_a_source_and_a_known_kind() -> None:
    for row in PUBLISHED:
        assert row.source.startswith("https://") and row.kind in KINDS
        assert 0.7 < row.accuracy < 0.85 and row.how, row.name
    assert {row.kind for row in PUBLISHED} == set(KINDS)


def test_stored_slices_count_the_faces_that_they_state() -> None:
    told = json.loads((RESULTS / "slices-fer2013.json").read_text(encoding="utf-8"))
    kept = evidence.stored_answers(Results(RESULTS), "fer2013")
    for name, groups in told["slices"].items():
        for network in next(iter(groups.values())):
            fair = ~kept[network].in_train
            counts = np.array([group[network] for group in groups.values()])
            assert counts[:, 1].sum() == told["faces"] == fair.sum(), name
            assert counts[:, 0].sum() == kept[network].right[fair].sum(), name
    assert torch.tensor([group["label"][1] for group in told["agreement"].values()]).sum() > 2000
