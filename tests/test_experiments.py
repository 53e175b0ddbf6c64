"""experiments.py: what is written down is what was measured."""

import json

import pytest
import torch

import experiments
from insight import metrics
from predict import ExpressionPredictor


@pytest.fixture(scope="module")
def trained(splits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiments")
    splits.save_to_disk(folder / "drawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        experiments.main(
            [
                "train",
                "tinyvgg",
                "--data",
                str(folder / "drawn"),
                "--epochs",
                "2",
                "--size",
                "24",
                "--seed",
                "3",
                "--device",
                "cpu",
            ]
        )
    return folder


def test_checkpoint_card_and_results_are_named_after_system_and_data(trained):
    assert sorted(p.name for p in (trained / "checkpoints").iterdir()) == [
        "tinyvgg-drawn.md",
        "tinyvgg-drawn.safetensors",
    ]
    assert [p.name for p in (trained / "results").iterdir()] == ["tinyvgg-drawn.json"]


def test_figures_in_results_are_those_of_the_exported_file(trained, splits):
    # Measured before rounding to half precision, they would be another network's
    report = json.loads((trained / "results" / "tinyvgg-drawn.json").read_text())
    predictor = ExpressionPredictor(trained / "checkpoints" / "tinyvgg-drawn.safetensors")
    for split in ("validation", "test"):
        logits = predictor.logits(splits[split]["image"][:])
        again = metrics.evaluate(
            logits, torch.tensor(splits[split]["label"][:]), predictor.class_names
        )
        assert report[split]["plain"]["confusion"] == again.confusion.tolist()
        assert predictor.card[split] == {"k": again.k, "n": again.n}


def test_results_say_how_they_came_about(trained):
    report = json.loads((trained / "results" / "tinyvgg-drawn.json").read_text())
    assert (
        report["seed"] == 3 and report["recipe"]["size"] == 24 and report["recipe"]["epochs"] == 2
    )
    assert len(report["history"]["val_loss"]) == 2
    assert report["data"]["name"] == "drawn" and len(report["data"]["fingerprint"]) == 16
    assert {"torch", "datasets"} <= report["versions"].keys() and report["minutes"] >= 0
    low, high = report["test"]["plain"]["interval_95"]
    assert low < report["test"]["plain"]["accuracy"] < high


def test_an_unknown_system_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        experiments.main(["train", "vgg"])
    assert "tinyvgg" in capsys.readouterr().err
