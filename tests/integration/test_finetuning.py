"""A folder of one's own, from a network of other classes: what is kept, and what it gives."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import experiments
from expression.checkpoint import load_checkpoint
from expression.onnx_network import OnnxNetwork
from lab import finetuning, from_checkpoint, heads, models
from lab.checks import UsageError
from lab.datasets import synthetic
from lab.export import TorchNetwork, save_network
from lab.parsing import parse

pytestmark = pytest.mark.slow

NARROW = {"stem": 4, "widths": [8, 8], "residuals": [0, 0]}
OLD = ["angry", "happy", "neutral", "sad"]


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A small ResNet9 of four classes with two heads; its card tells nothing of its training."""
    torch.manual_seed(1)
    model = models.build("resnet9", num_classes=8, in_channels=1, **NARROW)
    card = {
        "system": "resnet9", "system_args": NARROW, "class_names": OLD,
        "preprocess": {"size": 24, "mode": "L", "channels": 1, "mean": [0.4], "std": [0.2]},
        "data": {"name": "drawn", "fingerprint": "0"}, "heads": {"votes": 2.0, "label": 1.0},
        "temperature": 1.0, "crop": "whole picture",
    }  # fmt: skip
    return save_network(tmp_path / "networks" / "four.safetensors", model, card)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Drawn faces in my_faces/Sadness, my_faces/bored and my_faces/happy."""
    drawn = synthetic.load(train=60, validation=1, test=1, size=24,
                           class_names=("sad", "neutral", "happy"))  # fmt: skip
    for k, row in enumerate(drawn["train"]):
        place = tmp_path / "my_faces" / ("Sadness", "bored", "happy")[row["label"]]
        place.mkdir(parents=True, exist_ok=True)
        row["image"].save(place / f"{k}.png")
    return tmp_path / "my_faces"


# --- weights ---


@pytest.mark.parametrize("head", ["label", "votes"])
def test_a_class_keeps_its_weights_by_name(
    network: Path, head: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # Taken by position, the row of "angry" would answer for the first class of the folder.
    arrays, card = load_checkpoint(network)
    place = 1  # votes, label
    if head == "votes":  # without a head called label, the one that counts most
        card["heads"], place = {"votes": 2.0, "mean": 1.0}, 0
    state = models.as_tensors(arrays)
    model = models.build("resnet9", num_classes=3, in_channels=1, **NARROW)
    ours = ["bored", "happy", "sadness"]
    filled = finetuning.fitted_weights(state, card, model, ours, ("label",))
    weight, bias = (f"head.3.{kind}" for kind in ("weight", "bias"))
    for index, word in ((1, "happy"), (2, "sad")):
        row = place * len(OLD) + OLD.index(word)
        assert torch.equal(filled[weight][index], state[weight][row])
        assert torch.equal(filled[bias][index], state[bias][row])
    assert torch.equal(filled[weight][0], model.state_dict()[weight][0])  # nobody knew bored
    assert all(torch.equal(filled[name], state[name]) for name in state if "head" not in name)
    model.load_state_dict(filled)
    told = capsys.readouterr().out
    for words in ("happy, sadness", "bored", "angry, neutral", f": {head}"):
        assert words in told


def test_the_same_classes_answer_as_before(network: Path) -> None:
    # Nothing is learnt at rate 0, so only the order of the classes may differ.
    arrays, card = load_checkpoint(network)
    state = models.as_tensors(arrays)
    images = torch.randn(5, 1, 24, 24)
    model = models.build("resnet9", num_classes=4, in_channels=1, **NARROW).eval()
    turned = OLD[::-1]
    model.load_state_dict(finetuning.fitted_weights(state, card, model, turned, ("label",)))
    both = models.build("resnet9", num_classes=8, in_channels=1, **NARROW).eval()
    both.load_state_dict(state)
    expected = heads.split_heads(both(images), 2)[:, 1].flip(1)
    assert torch.allclose(model(images), expected, atol=1e-6)


# --- the command ---


def test_one_command_gives_checkpoint_card_and_onnx(
    network: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    words = ["train", "finetune", "--data", str(folder), "--init-from", str(network)]
    experiments.main([*words, "--epochs", "2", "--device", "cpu"])
    stem = tmp_path / "checkpoints" / "finetune-my_faces"
    assert {p.suffix for p in stem.parent.iterdir()} == {".safetensors", ".md", ".onnx"}
    _, card = load_checkpoint(stem.with_suffix(".safetensors"))
    assert card["class_names"] == ["bored", "happy", "sadness"]  # the folder's, not the network's
    assert card["heads"] == {"label": 1.0} and card["system_args"] == NARROW
    assert card["preprocess"]["size"] == 24 and card["preprocess"]["mean"] == [0.4]
    assert len(card["stages"]) == 1  # the network that it comes from
    images = np.random.default_rng(0).standard_normal((3, 1, 24, 24)).astype(np.float32)
    exported = OnnxNetwork(stem.with_suffix(".onnx"))
    own = TorchNetwork.load(stem.with_suffix(".safetensors"))
    assert np.allclose(exported(images), own(images), atol=1e-4) and own(images).shape == (3, 3)
    told = capsys.readouterr().out
    assert "predict.py photo.jpg --checkpoint checkpoints/finetune-my_faces" in told
    assert re.search(r"Before fine-tuning: validation \d+/\d+ = ", told)
    # The command in the card makes the same run again: the network's own settings are not in it
    _, recipes = parse([*card["command"].split()[2:], "--init-from", str(network)])
    again = from_checkpoint.settled("finetune", recipes["finetune"], "my_faces")
    assert json.dumps(again.as_dict()["system_args"]) == json.dumps(card["recipe"]["system_args"])


def test_settings_that_the_card_gives_are_not_options(network: Path) -> None:
    for option in (["--size", "32"], ["--arg", "stem=8"]):
        _, recipes = parse(["train", "finetune", "--init-from", str(network), *option])
        with pytest.raises(ValueError, match=f"{option[0]}: .*four.safetensors"):
            from_checkpoint.settled("finetune", recipes["finetune"], "my_faces")


def test_fine_tuning_asks_for_the_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    # Out of the hub's reach it learnt drawn faces, and called that a network for one's own
    _, recipes = parse(["train", "finetune"])
    monkeypatch.delenv("EXPRESSION_DATA", raising=False)
    with pytest.raises(UsageError, match="--data"):
        from_checkpoint.settled("finetune", recipes["finetune"], None)
    monkeypatch.setenv("EXPRESSION_DATA", "my_faces")
    assert from_checkpoint.settled("finetune", recipes["finetune"], None).init_from


def test_the_served_network_is_where_fine_tuning_starts() -> None:
    _, recipes = parse(["train", "finetune"])
    recipe = from_checkpoint.settled("finetune", recipes["finetune"], "my_faces")
    _, card = load_checkpoint(recipe.init_from)
    assert recipe.system_args == card["system_args"] and recipe.size == card["preprocess"]["size"]


def test_without_onnx_the_checkpoint_serves_and_a_line_says_how(
    network: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(_: Path) -> Path:
        raise ImportError("exporting to ONNX needs onnx: pip install onnx")

    monkeypatch.setattr(from_checkpoint, "export_checkpoint", missing)
    from_checkpoint.write_onnx(network)
    told = capsys.readouterr()
    assert "pip install onnx" in told.err and "--export-onnx" in told.err
    assert f"--checkpoint {network}" in told.out
