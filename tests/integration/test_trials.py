"""The paired trials: sums by hand, what is done is not done again, what is cut short goes on."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import (
    cleaned_labels,
    harness,
    training_report,
    trial_summary,
    trials,
    worse_pictures,
)
from expression.face_detector import CropRule
from expression.preprocessing import Preprocess
from hf_collate import Decoded
from lab.data import Packed, pack
from lab.datasets import ferplus
from lab.tensorboard_log import TensorBoardLog

pytestmark = pytest.mark.slow
NAMES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def record(arm: str, seed: int, combined: dict[str, float], **heads: dict[str, float]) -> dict:
    """A run's JSON, as far as the summary reads it."""
    return {"settings": {"arm": arm, "seed": seed}, "minutes": 2.0 + seed,
            "figures": {"combined": combined, **heads}}  # fmt: skip


# --- the summary ---


def test_differences_are_paired_by_seed_and_have_a_t_interval() -> None:
    # Gains 0.01, 0.02, 0.06: mean 0.03, sd sqrt(0.0007) = 0.026458; t(2) = 4.302653, so the
    # interval is 0.03 ± 4.302653 · 0.026458 / sqrt(3). Unpaired, the seeds' own spread drowns it.
    told = trial_summary.summarise(
        [record("base", s, {"accuracy": a}) for s, a in ((0, 0.50), (1, 0.60), (2, 0.40))]
        + [record("mixup", s, {"accuracy": a}) for s, a in ((2, 0.46), (0, 0.51), (1, 0.62))]
    )
    found = told["mixup"]["answers"]["combined"]["accuracy"]
    assert found["values"] == {"0": 0.51, "1": 0.62, "2": 0.46}
    assert [found["differences"][s] for s in "012"] == pytest.approx([0.01, 0.02, 0.06])
    assert found["mean"] == pytest.approx(0.03) and found["sd"] == pytest.approx(0.026458, abs=1e-6)
    assert found["interval_95"] == pytest.approx([0.03 - 0.065725, 0.03 + 0.065725], abs=1e-5)
    assert told["mixup"]["minutes"] == 3.0


def test_one_pair_has_no_interval_and_a_run_without_its_base_no_difference() -> None:
    told = trial_summary.summarise(
        [record("base", 0, {"nll": 1.0}), record("mixup", 0, {"nll": 0.9}),
         record("mixup", 1, {"nll": 0.7}), record("focal", 1, {"nll": 0.8})]
    )  # fmt: skip
    mixup = told["mixup"]["answers"]["combined"]["nll"]
    assert mixup["mean"] == pytest.approx(-0.1) and "interval_95" not in mixup
    assert mixup["differences"].keys() == {"0"} and mixup["values"].keys() == {"0", "1"}
    assert told["focal"]["answers"]["combined"]["nll"].keys() == {"values"}


def test_equal_differences_have_an_interval_without_width() -> None:
    assert trial_summary.paired_interval([0.5, 0.5]) == [0.5, 0.5]


def test_an_answer_is_compared_with_the_same_answer_of_the_base() -> None:
    told = trial_summary.summarise(
        [record("base", 0, {"nll": 1.0}, label={"nll": 1.1}, votes={"nll": 2.0}),
         record("label_only", 0, {"nll": 1.3}, label={"nll": 1.3})]
    )["label_only"]["answers"]  # fmt: skip
    assert told["combined"]["nll"]["mean"] == pytest.approx(0.3)
    assert told["label"]["nll"]["mean"] == pytest.approx(0.2)
    assert "votes" not in told


def test_the_tables_give_the_base_and_what_is_added_to_it() -> None:
    runs = [record("base", s, {"accuracy": 0.5, "nll": 1.0}) for s in (0, 1)]
    runs += [record("mixup", s, {"accuracy": 0.51 + s / 1000, "nll": 1.2}) for s in (0, 1)]
    told = {"settings": {"arms": {n: {"title": n} for n in ("base", "mixup", "focal")}},
            "arms": trial_summary.summarise(runs)}  # fmt: skip
    base, mixup = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in trial_summary.table(told).splitlines()[2:]
    )
    assert base[:5] == ["base", "2", "2.5", "50.00", "1.000"]
    # 1.05 ± 12.706 · 0.0707 / sqrt(2) = 0.6353 points
    assert mixup[3] == "**+1.05 (+0.41 to +1.69)**" and mixup[5] == "–"
    told |= {"machine": {"device": "x", "threads": 1}, "versions": {"torch": "2"}, "date": "today"}
    told["settings"]["recipe"] = {"epochs": 6, "size": 32}
    assert trial_summary.table(told) in training_report.trials_section(told)


# --- the runs ---


def faces_of(count: int, seed: int, name: str) -> Packed:
    """Bright bands at seven heights, and votes for what they show; 8 of 10 at least."""
    splits, votes = {}, {}
    words = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    columns = [ferplus.VOTE_NAMES.index(word) for word in words]
    for number, split in enumerate(("train", "validation", "test")):
        rng = np.random.default_rng(10 * seed + number)
        labels = np.arange(count) % 7
        pixels = rng.integers(0, 90, (count, 1, 48, 48), dtype=np.uint8)
        counts = np.zeros((count, 10), np.uint8)
        for row, label in enumerate(labels):
            pixels[row, 0, 6 * label : 6 * label + 6] += 120
            counts[row, columns[label]] = 8
        counts[:, 0] += 2
        splits[split] = Decoded(
            torch.from_numpy(pixels), torch.from_numpy(labels), NAMES, Preprocess(48, "L")
        )
        votes[split] = torch.from_numpy(counts)
    rule = CropRule(measured=count).settings()
    return Packed(splits, name, str(seed) * 16, rule, votes, ferplus.VOTE_NAMES)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(TensorBoardLog, "start", lambda *_: None)
    monkeypatch.setattr(trials, "QUICK", {"limit": 56, "limit_eval": 28, "epochs": 2})
    monkeypatch.chdir(tmp_path)
    pack(faces_of(70, 0, "home"), tmp_path / "home.npz")
    pack(replace(faces_of(42, 1, "street"), packed_votes={}), tmp_path / "street.npz")
    return ["--data", "home.npz", "--also", "street.npz", "--device", "cpu", "--quick"]


def told_by(folder: str = "out/quick-trials") -> dict[str, Any]:
    return json.loads((Path(folder) / "trials.json").read_text())


def test_a_run_cut_short_goes_on_and_a_finished_one_is_not_run_again(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    interrupted: Callable[[], Any],
) -> None:  # fmt: skip
    only = ["--only", "base", "--only", "prior_correction"]
    assert trials.main([*command, *only, "--seeds", "1", "--runs", "whole"]) == 0
    with interrupted():
        trials.main([*command, *only, "--seeds", "1"])
    assert not list(Path("out/quick-trials").glob("*.json"))
    capsys.readouterr()
    assert trials.main([*command, *only, "--seeds", "1"]) == 0
    assert "going on after epoch 1" in capsys.readouterr().out
    whole = json.loads(Path("whole/base-seed0.json").read_text())
    again = json.loads(Path("out/quick-trials/base-seed0.json").read_text())
    assert whole["figures"] == again["figures"]
    told = told_by()
    assert told["arms"].keys() == {"base", "prior_correction"}
    monkeypatch.setattr(trials.Trials, "train", lambda *_: pytest.fail("trained again"))
    assert trials.main([*command, *only, "--seeds", "1"]) == 0
    assert told_by()["arms"] == told["arms"]
    # the correction is measured on the base's network: nothing was trained for it
    assert [p.stem for p in Path("out/quick-trials/checkpoints").glob("*.safetensors")] == [
        "base-home"
    ]


def test_runs_of_other_settings_or_data_are_not_mixed(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    only = ["--only", "base", "--seeds", "1"]
    assert trials.main([*command, *only]) == 0
    monkeypatch.setitem(trials.QUICK, "epochs", 3)
    assert trials.main([*command, *only]) == 2
    assert "epochs" in capsys.readouterr().err
    # trained, but cut short before it was measured: its checkpoint is of other settings too
    Path("out/quick-trials/base-seed0.json").unlink()
    assert trials.main([*command, *only]) == 2
    assert "epochs" in capsys.readouterr().err


def test_seed_0_of_every_arm_comes_before_seed_1(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A comparison that is stopped half way must be one of whole pairs.
    order = []

    def fake(self: trials.Trials, arm: trials.Arm, seed: int) -> dict[str, Any]:
        order.append((arm.name, seed))
        told = record(arm.name, seed, dict.fromkeys(trial_summary.MEASURES, 0.5))
        harness.write_json(self.runs / f"{arm.name}-seed{seed}.json", told)
        return told

    monkeypatch.setattr(trials.Trials, "run", fake)
    assert trials.main([*command, "--seeds", "2"]) == 0
    assert order == [(name, seed) for seed in (0, 1) for name in trials.ARMS]
    assert len(told_by()["arms"]) == len(trials.ARMS)


def test_figures_are_those_of_each_head_and_of_both_together(command: list[str]) -> None:
    assert trials.main([*command, "--only", "base", "--seeds", "1"]) == 0
    figures = json.loads(Path("out/quick-trials/base-seed0.json").read_text())["figures"]
    assert figures.keys() == {"combined", "label", "votes"}
    losses = {figures[answer]["nll"] for answer in figures}
    assert len(losses) == 3  # three answers, not one three times
    abroad = figures["combined"]["recalls"]["abroad_validation"]
    assert abroad.keys() == set(NAMES) - {"disgust"}
    assert figures["combined"]["abroad_validation"] == pytest.approx(sum(abroad.values()) / 6)


def test_every_arm_is_a_recipe_that_differs_from_the_base_in_its_setting_alone() -> None:
    base = trials.recipe_of(trials.ARMS["base"]).as_dict()
    assert base["keep"] == "last" and base["precision"] == "float32" and base["epochs"] == 6
    for arm in trials.ARMS.values():
        own = trials.recipe_of(arm).as_dict()
        assert {name for name in own if own[name] != base[name]} <= set(arm.changes)
        assert arm.name == "base" or own != base


def test_data_without_votes_are_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trials.main(["--data", "street.npz", *command[2:]]) == 2
    assert "--votes" in capsys.readouterr().err


def test_cleaned_labels_train_and_published_ones_judge(
    command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A file that moves every label by one class: who learns it is wrong by the published labels
    # and right by the moved ones, so it must lose what the other gains.
    doubts = tmp_path / "doubts.csv"
    doubts.write_text("read by the stand-in below\n")

    def read(where: str, cleaned_labels: Path | None = None, **_: Any) -> Packed:
        if where == "street.npz":
            return replace(faces_of(42, 1, "street"), packed_votes={})
        faces = faces_of(140, 0, "home")
        if cleaned_labels is None:
            return faces
        assert cleaned_labels == doubts
        train = faces.splits["train"]
        moved = replace(train, labels=(train.labels + 1) % 7)
        return replace(faces, name="home_cleaned", fingerprint="c" * 16, cleaned="d" * 64,
                       splits={**faces.splits, "train": moved})  # fmt: skip

    monkeypatch.setattr(trials.subjects, "read", read)
    monkeypatch.setattr(trials, "QUICK", {})
    words = ["--data", "home", *command[2:], "--cleaned-labels", str(doubts), "--seeds", "1"]
    assert cleaned_labels.main(words) == 0
    told = json.loads(Path("out/quick-cleaned_labels/cleaned_labels.json").read_text())
    settings, arms = told["settings"], told["arms"]
    assert (settings["replaced"], settings["of"]) == (140, 140)
    assert settings["file"] == {"name": "doubts.csv", "sha256": "d" * 64}
    published, cleaned = (arms[n]["answers"]["combined"]["accuracy"] for n in ("base", "cleaned"))
    assert published["values"]["0"] > 0.6 and cleaned["values"]["0"] < 0.2  # by chance 0.14
    assert told["arms"].keys() == {"base", "cleaned"}
    assert trial_summary.table(told) in training_report.cleaned_labels_section(told)


def test_worse_pictures_judge_beside_the_others(command: list[str]) -> None:
    assert worse_pictures.main([*command, "--seeds", "1"]) == 0
    told = json.loads(Path("out/quick-worse_pictures/worse_pictures.json").read_text())
    assert told["arms"].keys() == {"base", "worse"}
    for arm in told["arms"].values():
        assert 0 <= arm["answers"]["combined"]["worse_pictures"]["values"]["0"] <= 1
    usual, worse = (
        trials.recipe_of(arm).augment for arm in (worse_pictures.USUAL, worse_pictures.WORSE)
    )
    assert usual and worse == replace(usual, darkness=0.9, blur=0.04, noise=0.15)
    page = training_report.worse_pictures_section(told)
    assert trial_summary.table(told) in page and "accuracy on worse pictures (%)" in page
