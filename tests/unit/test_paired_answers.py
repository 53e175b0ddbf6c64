"""Two networks on the same faces, the same minutes for all: every sum by hand."""

from typing import Any

import numpy as np
import pytest

from benchmarks import budget_plan, budget_summary, training_report
from benchmarks.paired_answers import bootstrap_difference, mcnemar
from lab.recipes import RECIPES

RIGHT, WRONG = np.ones(40, bool), np.zeros(40, bool)


def answers(text: str) -> np.ndarray:
    """'+-+' → right, wrong, right."""
    return np.array([sign == "+" for sign in text])


# --- McNemar ---


def test_only_faces_that_one_network_alone_answers_right_count() -> None:
    # 5 : 1 of 6 such faces; p = 2 (C(6,0) + C(6,1)) / 2^6 = 14 / 64, whatever both know.
    ours, theirs = answers("+++++-"), answers("-----+")
    assert mcnemar(ours, theirs) == {"ours_alone": 5, "theirs_alone": 1, "p": 14 / 64}
    shared = np.concatenate([RIGHT, WRONG])
    ours, theirs = np.concatenate([ours, shared]), np.concatenate([theirs, shared])
    assert mcnemar(ours, theirs)["p"] == pytest.approx(14 / 64)
    assert mcnemar(theirs, ours) == {"ours_alone": 1, "theirs_alone": 5, "p": 14 / 64}


def test_equal_answers_have_p_1() -> None:
    assert mcnemar(RIGHT, RIGHT)["p"] == 1.0
    assert mcnemar(answers("+-"), answers("-+"))["p"] == 1.0


def test_answers_to_other_faces_are_refused() -> None:
    with pytest.raises(ValueError, match="39"):
        mcnemar(RIGHT, WRONG[1:])
    with pytest.raises(ValueError, match="39"):
        bootstrap_difference(RIGHT[None], WRONG[None, 1:])


# --- bootstrap ---


def test_a_face_that_is_drawn_counts_for_both_networks() -> None:
    # Drawn apart, two copies of one network would differ in most rounds.
    half = answers("+-" * 50)[None]
    assert bootstrap_difference(half, half, 200) == {"mean": 0.0, "interval_95": [0.0, 0.0]}


def test_faces_are_drawn_with_replacement() -> None:
    # Of differences 1 and 0 two are drawn: 0, 0.5 or 1 with chances 1/4, 1/2, 1/4.
    found = bootstrap_difference(answers("+-")[None], answers("--")[None], 400)
    assert found == {"mean": 0.5, "interval_95": [0.0, 1.0]}


def test_seeds_are_drawn_too() -> None:
    # One seed knows everything, one nothing: faces alone would give 0.5 without any width.
    found = bootstrap_difference(np.stack([RIGHT, WRONG]), WRONG[None], 400)
    assert found == {"mean": 0.5, "interval_95": [0.0, 1.0]}


def test_seeds_of_two_networks_are_no_pairs() -> None:
    # Drawn as pairs, the difference would be 0 in every round; drawn apart it is -1 in 1 of 16.
    both = np.stack([RIGHT, WRONG])
    assert bootstrap_difference(both, both, 400) == {"mean": 0.0, "interval_95": [-1.0, 1.0]}


def test_the_same_seed_draws_the_same_interval() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = rng.random((3, 60)) < 0.7, rng.random((2, 60)) < 0.6
    assert bootstrap_difference(ours, theirs, 50) == bootstrap_difference(ours, theirs, 50)


# --- the plan ---


def test_systems_that_use_more_than_the_labels_are_left_out() -> None:
    left_out = budget_plan.reasons_to_leave_out(RECIPES)
    assert left_out.keys() == {
        "expression_taught", "expression_wide_taught", "expression_votes",
        "expression_joined", "expression_joined_worse", "expression_small_joined", "finetune",
        "face_transfer", "transfer",
        "vit_tiny_distilled",
    }  # fmt: skip
    assert "votes" in left_out["expression_joined"] and "teacher" in left_out["vit_tiny_distilled"]


def test_epochs_of_growing_pictures_are_counted_at_their_own_side() -> None:
    # Sides 32, 32, 40, 48 for equal shares; 0.5 s of validation after each epoch.
    # 4 epochs: 1 + 1 + 2 + 4 + 4 · 0.5 = 10 s; 5 epochs (the last unaugmented, at 48):
    # 1 + 1 + 1 + 2 + 4 + 5 · 0.5 = 11.5 s. At the largest side alone only 2 would fit.
    seconds = {"32": 1.0, "40": 2.0, "48": 4.0, "validation": 0.5}
    fit = [budget_plan.fit_epochs(RECIPES["expression"], seconds, s) for s in (10, 11.4, 11.6)]
    assert [recipe.epochs for recipe in fit] == [4, 4, 5]
    assert [recipe.final_unaugmented_epochs for recipe in fit] == [0, 0, 1]
    assert budget_plan.seconds_of_training(fit[2], seconds) == 11.5


def test_one_epoch_is_trained_even_where_it_does_not_fit() -> None:
    seconds = {"48": 100.0, "validation": 1.0}
    assert budget_plan.fit_epochs(RECIPES["tinyvgg"], seconds, 10.0).epochs == 1


def test_only_the_cycle_of_a_recipe_changes() -> None:
    for name in ("vit_tiny", "attention_cnn", "gray_resnet"):
        before, after = RECIPES[name].as_dict(), budget_plan.cycle(RECIPES[name], 3).as_dict()
        changed = {key for key in after if after[key] != before[key]}
        assert changed <= {"epochs", "schedule", "warmup", "stop", "keep", "precision"}
        assert after["schedule"] == "onecycle" and after["keep"] == "last"
        assert after["precision"] == "float32" and after["stop"] == "never"


def test_the_svm_gets_the_faces_that_fit() -> None:
    # Seconds 1 + 0.001 n + 0.000001 n²: 50 s are reached at n = 6517.8.
    timed = {1000: 3.0, 2000: 7.0, 4000: 21.0}
    count, seconds = budget_plan.fit_faces(timed, 28709, 50.0)
    assert count == pytest.approx(6517, abs=2) and seconds == pytest.approx(50, abs=0.1)
    assert budget_plan.fit_faces(timed, 5000, 50.0)[0] == 5000
    assert budget_plan.fit_faces(timed, 28709, 1.0)[0] == 1000


# --- the summary ---


def run(system: str, seed: int, right: np.ndarray, minutes: float = 10.0) -> Any:
    """A record as the summary reads it, and the right answers of its network."""
    figures = {"k": int(right.sum()), "n": len(right), "accuracy": right.mean(), "macro_f1": 0.5}
    settings = {"system": system, "seed": seed, "budget": 10.0,
                "recipe": {"epochs": 4, "limit": 0}}  # fmt: skip
    record = {"settings": settings, "minutes": 99.0, "planned_minutes": minutes,
              "parameters": 1234, "figures": {"validation": figures}}  # fmt: skip
    return record, {"validation": right}


def test_a_system_over_the_budget_has_no_place() -> None:
    best, good, bad = answers("++++++++++"), answers("++++++----"), answers("+---------")
    told = budget_summary.summarise(
        [run("slow", 0, best, 12.6), run("bad", 0, bad), run("good", 1, best, 8.0),
         run("good", 0, good, 9.0), run("short", 0, best, 7.4)]
    )  # fmt: skip
    found = told["splits"]["validation"]
    assert found["ranking"] == ["good", "bad"]
    assert set(found["not_ranked"]) == {"slow", "short"}
    row = found["rows"]["good"]["accuracy"]
    assert row["values"] == {"0": 0.6, "1": 1.0} and row["mean"] == pytest.approx(0.8)
    assert row["sd"] == pytest.approx(0.4 / 2**0.5)
    (pair,) = found["neighbours"]
    assert (pair["ahead"], pair["behind"]) == ("good", "bad")
    # of the first seeds alone: 6 right against 1 of these; p = 2 / 2^5
    assert pair["mcnemar"] == {"ours_alone": 5, "theirs_alone": 0, "p": 2 / 32}
    assert pair["difference"]["mean"] == pytest.approx(0.7)


def test_the_page_gives_places_spreads_and_the_neighbour() -> None:
    good, bad = answers("++++++----"), answers("+---------")
    told = budget_summary.summarise([run("good", 0, good), run("bad", 0, bad), run("bad", 1, bad),
                                     run("slow", 0, good, 30.0)])  # fmt: skip
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in budget_summary.table(told, "validation").splitlines()[2:]
    ]
    assert [row[:3] for row in cells] == [
        ["1", "`good`", "60.00"], ["2", "`bad`", "10.00 ± 0.00"], ["–", "`slow`", "60.00"],
    ]  # fmt: skip
    assert cells[0][9].startswith("**50.00 (") and cells[0][10] == "0.062 (5 : 0)"
    assert cells[1][9:] == ["–", "–"]
    settings = {"minutes": 10.0, "tolerance": 0.25, "data": "drawn", "left_out": {"x": "teachers"}}
    told |= {"settings": settings, "openings": [], "date": "today", "versions": {"torch": "2"},
             "machine": {"device": "x", "threads": 1}}  # fmt: skip
    page = training_report.equal_budget_section(told)
    assert budget_summary.table(told, "validation") in page
    assert "`x` teachers" in page and "not opened" in page and "--final" not in page
