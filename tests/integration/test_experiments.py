"""experiments.py: what is written down is what was measured, and a run cut short goes on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import DatasetDict
from sklearn.metrics import classification_report
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import experiments
from expression.checkpoint import load_checkpoint
from lab import distillation as teaching
from lab import metrics, model_card, optimization, series
from lab.data import read
from lab.recipe import Recipe
from lab.recipes import RECIPES
from lab.results import Results
from lab.tensorboard_log import TensorBoardLog
from train_state import load_state

pytestmark = pytest.mark.slow
ROOT = Path(experiments.__file__).parent
SMALL = ["--size", "24", "--batch-size", "32", "--device", "cpu"]


@pytest.fixture(scope="module")
def drawn(splits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "drawn"
    splits.save_to_disk(folder)
    return str(folder)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(drawn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiments")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["train", "tinyvgg", "--data", drawn, "--epochs", "2", "--seed", "3"]
        experiments.main([*words, "--final", *SMALL])
    return folder


def card_of(folder, name="tinyvgg-drawn-seed3"):
    return json.loads((folder / "results" / name / "checkpoint.json").read_text())["card"]


def figures(folder, name="tinyvgg-drawn-seed3", split="validation", views="plain"):
    kept = Results(folder / "results")
    return kept.read(folder / "results" / name / f"drawn-{split}-{views}.json").evaluation


# --- what a run leaves behind ---


def test_files_are_named_after_system_data_and_seed(trained):
    assert sorted(p.name for p in (trained / "checkpoints").iterdir()) == [
        "tinyvgg-drawn-seed3.md",
        "tinyvgg-drawn-seed3.safetensors",
    ]
    measured = [
        f"drawn-{split}-{what}"
        for split in ("validation", "test")
        for what in ("plain.json", "plain.npz", "flip.json", "flip.npz", "confusion.png",
                     "per_class.png", "calibration.png", "report.txt")
    ]  # fmt: skip
    assert {p.name for p in (trained / "results").rglob("*")} == {
        "tinyvgg-drawn-seed3", "test_openings.jsonl", "checkpoint.json", "history.png", *measured,
    }  # fmt: skip


def test_figures_in_results_are_those_of_the_exported_file(trained, splits, open_predictor):
    # Measured before rounding to half precision, they would be another network's
    predictor = open_predictor(trained / "checkpoints" / "tinyvgg-drawn-seed3.safetensors")
    for split in ("validation", "test"):
        logits = torch.from_numpy(predictor.logits(splits[split]["image"][:]))
        labels = torch.tensor(splits[split]["label"][:])
        again = metrics.evaluate(logits, labels, predictor.class_names)
        assert figures(trained, split=split).confusion.tolist() == again.confusion.tolist()
        text = (trained / f"results/tinyvgg-drawn-seed3/drawn-{split}-report.txt").read_text()
        told = classification_report(
            labels, logits.argmax(1), target_names=predictor.class_names, digits=3, zero_division=0
        )
        assert told in text
    assert predictor.card["validation"]["n"] == 45 and "test" not in predictor.card


def test_results_say_how_they_came_about(trained):
    card = card_of(trained)
    assert card["seed"] == 3 and card["recipe"]["size"] == 24 and card["recipe"]["epochs"] == 2
    assert len(card["history"]["val_loss"]) == 2 and card["minutes"] >= 0
    assert card["data"]["name"] == "drawn" and len(card["data"]["fingerprint"]) == 16
    assert {"torch", "datasets"} <= card["versions"].keys()
    for word in ("train tinyvgg", "--data drawn", "--seed 3", "--size 24", "--epochs 2"):
        assert word in card["command"]
    assert "/" not in card["command"].split("--data")[1]  # no folder of this machine
    file = trained / "results/tinyvgg-drawn-seed3/drawn-test-flip.json"
    told = json.loads(file.read_text())
    assert told["command"].startswith("python experiments.py evaluate") and told["hardware"]
    assert told["revision"] == card["revision"] and told["date"].endswith("+00:00")


def test_the_board_lies_where_it_is_looked_for_and_holds_curves_graph_and_figures(trained):
    (folder,) = trained.glob("runs/*/drawn/tinyvgg/seed3/board")
    events = EventAccumulator(str(folder)).Reload()
    assert {"loss/train", "loss/val", "accuracy/val", "lr"} <= set(events.Tags()["scalars"])
    assert {"pictures", "confusion", "per_class", "history"} <= set(events.Tags()["images"])
    assert events.Tags()["graph"]
    told = [round(e.value, 5) for e in events.Scalars("loss/val")]
    assert told == [round(v, 5) for v in card_of(trained)["history"]["val_loss"]]


def test_the_board_of_a_run_is_one_file_also_when_it_is_cut_short(drawn, here, monkeypatch):
    # A writer an epoch left a file an epoch, which TensorBoard reads one after the other
    words = ["train", "tinyvgg", "--data", drawn, "--epochs", "3", *SMALL]
    closed, close = [], SummaryWriter.close
    monkeypatch.setattr(SummaryWriter, "close", lambda self: closed.append(1) or close(self))
    with monkeypatch.context() as patch:
        cut_after(patch, 2)
        with pytest.raises(SystemExit, match="interrupted"):
            experiments.main(words)
    (folder,) = here.glob("runs/*/drawn/tinyvgg/seed0/board")
    assert len(list(folder.iterdir())) == 1 and len(closed) == 1
    experiments.main([*words, "--resume"])
    assert len(list(folder.iterdir())) == 2 and len(closed) == 2
    events = EventAccumulator(str(folder)).Reload()
    curve = events.Scalars("loss/val")
    assert [event.step for event in curve] == [1, 2, 3]  # the first two not twice
    told = card_of(here, "tinyvgg-drawn")["history"]["val_loss"]
    assert [event.value for event in curve] == pytest.approx(told)
    assert {"pictures", "confusion"} <= set(events.Tags()["images"])


# --- going on ---


def cut_after(monkeypatch, epochs):
    """The power fails while the board of this epoch is written: its state is on disk already."""
    epoch_done = TensorBoardLog.epoch

    def epoch(self, number, history):
        epoch_done(self, number, history)
        if number + 1 == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(TensorBoardLog, "epoch", epoch)


@pytest.mark.parametrize(
    "options",
    [
        ["baseline_cnn", "--schedule", "onecycle"],
        ["attention_cnn", "--warmup", "2"],  # dropout, class weights, plateau and warm-up
        ["gray_resnet", "--step-size", "1"],
        ["face_transfer", "--head-epochs", "1"],
    ],
    ids=lambda options: options[0],
)
def test_a_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(
    options, drawn, here, monkeypatch, capsys
):
    words = ["train", *options, "--data", drawn, "--epochs", "3", *SMALL]
    experiments.main([*words, "--out", "whole"])
    with monkeypatch.context() as patch:
        cut_after(patch, 1)
        with pytest.raises(SystemExit, match="go on with: .* --resume"):
            experiments.main([*words, "--out", "cut"])
    assert not (here / "cut" / "checkpoints").exists()  # half a run is no checkpoint
    experiments.main([*words, "--out", "cut", "--resume"])
    assert "going on after epoch 1" in capsys.readouterr().out
    name = f"{options[0]}-drawn"
    whole, again = (here / out / "checkpoints" / f"{name}.safetensors" for out in ("whole", "cut"))
    for key, tensor in load_checkpoint(whole)[0].items():
        assert np.array_equal(tensor, load_checkpoint(again)[0][key]), key
    histories = [card_of(here / out, name)["history"] for out in ("whole", "cut")]
    for key in ("train_loss", "val_loss", "train_accuracy", "val_accuracy", "lr"):
        assert histories[0][key] == histories[1][key]


def test_a_finished_run_is_not_trained_again(drawn, here, monkeypatch):
    words = ["train", "tinyvgg", "--data", drawn, "--epochs", "1", *SMALL]
    experiments.main(words)
    monkeypatch.setattr(series, "train_network", lambda *_: pytest.fail("trained again"))
    experiments.main([*words, "--resume"])


def test_a_run_cut_off_after_its_export_goes_on_to_its_evaluation(drawn, here, monkeypatch):
    words = ["train", "tinyvgg", "--data", drawn, "--epochs", "1", *SMALL]

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model_card, "write", interrupted)
        with pytest.raises(SystemExit, match="--resume"):
            experiments.main(words)
    with monkeypatch.context() as patch:
        patch.setattr(series, "train_network", lambda *_: pytest.fail("trained again"))
        experiments.main([*words, "--resume"])
    assert list(here.glob("results/tinyvgg-drawn/*validation*.json"))
    assert (here / "checkpoints" / "tinyvgg-drawn.md").exists()
    assert list(here.glob("runs/*/*/*/*/finished"))
    # another run's network of that name is not taken for this one's
    with pytest.raises(SystemExit, match="never replaced"):
        experiments.main(words)


@pytest.mark.parametrize("system", ["tinyvgg", "hog_svm"])
def test_faces_of_one_class_are_nothing_to_train_on(splits, system, here):
    # It reported 100 % of one class
    names = splits["train"].features["label"].names
    one = DatasetDict({k: rows.filter(lambda row: row["label"] == 1) for k, rows in splits.items()})
    one.save_to_disk(here / "one")
    with pytest.raises(SystemExit, match=f"are labelled {names[1]}; training needs two classes"):
        experiments.main(["train", system, "--data", "one", "--device", "cpu"])
    assert not list(here.glob("checkpoints/*"))


# --- settings ---


@pytest.mark.parametrize(
    "wrong", [{"schedule": "cosine"}, {"stop": "f1"}, {"precision": "int8"}, {"batch_size": 0}]
)
def test_a_setting_that_does_not_exist_is_refused(wrong):
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        replace(RECIPES["tinyvgg"], **wrong)


def rates(recipe, epochs=8, batches=4, val_loss=1.0):
    """The learning rate at the end of each epoch, the validation loss never falling."""
    model = nn.Linear(2, 2)
    optimizer = optimization.make_optimizer(model, recipe)
    by_epoch, by_batch = optimization.make_schedules(optimizer, recipe, batches)
    seen = []
    for _ in range(epochs):
        for _ in range(batches):
            optimizer.step()
            if by_batch:
                by_batch.step()
        seen.append(optimizer.param_groups[0]["lr"])
        if by_epoch:
            by_epoch.step(*([val_loss] if recipe.schedule == "plateau" else []))
    return seen


def test_schedules_do_what_their_names_say():
    base = Recipe("tinyvgg", lr=1.0, optimizer="sgd", epochs=8)
    step = rates(replace(base, schedule="step", step_size=7, gamma=0.1))
    assert step == pytest.approx([1.0] * 7 + [0.1])
    plateau = rates(replace(base, schedule="plateau", patience=2, factor=0.5))
    assert plateau == pytest.approx([1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25])
    warm = rates(replace(base, schedule="plateau", patience=2, factor=0.5, warmup=4))
    assert warm == pytest.approx([0.297, 0.531, 0.766, 1, 0.5, 0.5, 0.5, 0.25], abs=2e-3)
    cycle = rates(replace(base, schedule="onecycle"))
    assert max(cycle) > 0.9 and cycle[-1] < 0.01


def test_stopping_looks_at_the_figure_it_is_told_to():
    history = {"val_loss": [1.0, 0.8, 0.9, 0.9], "val_accuracy": [0.5, 0.6, 0.6, 0.7]}
    assert optimization.stalled(history, "loss", 2) and not optimization.stalled(history, "loss", 3)
    assert not optimization.stalled(history, "accuracy", 1)
    assert not optimization.stalled(history, "never", 0)
    told = optimization.end_words({**history, "lr": [0.1] * 4}, "loss", 2, epochs=9)
    assert told == "stopped after epoch 4 of 9: validation loss no better for 2"
    assert not optimization.end_words({**history, "lr": [0.1] * 9}, "loss", 2, epochs=9)


def test_class_weights_let_every_class_count_the_same():
    labels = torch.tensor([0] * 6 + [1] * 3 + [3])
    weights = optimization.balanced(labels, 4)
    sums = [weights[k] * (labels == k).sum() for k in range(4)]
    assert sums == pytest.approx([2.5, 2.5, 0, 2.5]) and weights.isfinite().all()


# --- a teacher ---


def test_a_teacher_moves_the_targets_by_its_share(drawn, trained, here):
    teacher = trained / "checkpoints" / "tinyvgg-drawn-seed3.safetensors"
    faces = read(drawn)
    recipe = replace(RECIPES["tinyvgg"], teacher=str(teacher), teacher_weight=0.25)
    rows = torch.tensor([1, 4, 7])
    targets = teaching.taught_targets(recipe, faces, rows, torch.device("cpu"))
    hard = nn.functional.one_hot(torch.tensor(faces.splits["train"]["label"])[rows], 3)
    probs = (targets[rows] - 0.75 * hard) / 0.25
    assert torch.allclose(probs.sum(1), torch.ones(3), atol=1e-5) and (probs >= -1e-6).all()
    assert not torch.allclose(probs, hard.float(), atol=0.05)
    assert targets[[0, 2, 3]].sum() == 0  # not looked at: nobody trains on these


def test_a_teacher_of_other_classes_is_refused(drawn, here):
    teacher = ROOT / "checkpoints" / "resnet18-fer2013.safetensors"
    with pytest.raises(SystemExit, match="teacher .* knows"):
        experiments.main(["train", "tinyvgg", "--data", drawn, "--teacher", str(teacher), *SMALL])


# --- all of them ---


def test_all_systems_run_and_meet_in_one_table(drawn, here, capsys, open_predictor):
    with pytest.raises(SystemExit) as ended:  # the teachers are not there
        experiments.main(
            ["--all", "--quick", "--data", drawn, "--epochs", "1", "--limit", "60", "--device",
             "cpu", "--final"]
        )  # fmt: skip
    assert "expression_taught left out: --teacher" in str(ended.value)
    for name in ("vit_tiny_distilled", "expression_wide_taught"):  # theirs knows other classes
        assert f"{name}-drawn did not run: teacher" in str(ended.value)
    assert "expression_votes-drawn did not run: drawn has no votes" in str(ended.value)
    out = here / "out" / "quick" / "results"
    # These data have no votes; what is fine-tuned is no system of its own
    ran = set(RECIPES) - {
        "vit_tiny_distilled",
        "expression_taught",
        "expression_wide_taught",
        "expression_votes",
        "expression_joined",
        "expression_joined_worse",
        "expression_small_joined",
        "finetune",
    }
    text = (out / "RESULTS.md").read_text()
    for name in ran:
        assert f"| `{name}` |" in text and (out / f"{name}-drawn/checkpoint.json").exists()
        maps = {p.stem for p in (out / f"{name}-drawn").glob("*.png")}
        assert {"drawn-validation-confusion", "drawn-validation-per_class"} <= maps
        assert ("gradcam" in maps) == (name != "hog_svm")
        assert ("attention" in maps) == (name in ("attention_cnn", "vit_tiny"))
    assert "60 training faces only" in text and (out / "comparison-drawn.png").exists()
    for checkpoint in (here / "out" / "quick" / "checkpoints").glob("*.safetensors"):
        answer = open_predictor(checkpoint).predict(_face(drawn))
        assert sum(answer.values()) == pytest.approx(1, abs=1e-4)


def _face(drawn):
    from datasets import load_from_disk

    return load_from_disk(drawn)["test"][0]["image"]


def test_seeds_become_a_mean_and_a_spread(drawn, here):
    experiments.main(["train", "tinyvgg", "--data", drawn, "--epochs", "1", "--seeds", "3", *SMALL])
    experiments.main(["compare"])
    text = (here / "results" / "RESULTS.md").read_text()
    values = [
        100 * figures(here, f"tinyvgg-drawn{tail}").accuracy for tail in ("", "-seed1", "-seed2")
    ]
    spread = torch.tensor(values).std().item()
    assert f"3 seeds {sum(values) / 3:.1f} ± {spread:.1f} %" in text
    assert text.count("| `tinyvgg` |") == 1


def test_comparing_nothing_says_so(here):
    with pytest.raises(SystemExit, match="no results in results"):
        experiments.main(["compare"])


def test_a_state_holds_numbers_only(trained):
    (path,) = trained.glob("runs/*/drawn/tinyvgg/seed3/state.pt")
    assert load_state(path)["settings"]["seed"] == 3
