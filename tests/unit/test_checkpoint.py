"""expression/checkpoint.py: a whole file with a card that fits, or one sentence."""

import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from expression.checkpoint import load_checkpoint, read_card, resolve_checkpoint
from lab.export import as_saved, save_network


def test_half_precision_comes_back_as_float_and_counters_stay_whole(tmp_path, card):
    model = nn.BatchNorm2d(2)
    path = save_network(tmp_path / "a" / "half.safetensors", model, card)
    state, kept = load_checkpoint(path)
    assert kept == card
    assert state["weight"].dtype == np.float32
    assert state["num_batches_tracked"].dtype == np.int64


def test_numbers_too_large_for_half_precision_are_kept_and_measured_as_they_are(tmp_path, card):
    model = nn.BatchNorm2d(2)
    model.running_var.copy_(torch.tensor([1.001, 1e6]))
    model.running_mean.fill_(0.1)
    path = save_network(tmp_path / "large.safetensors", model, card)
    state, _ = load_checkpoint(path)
    assert state["running_var"].tolist() == [np.float32(1.001), 1e6]
    assert state["running_mean"].tolist() == [np.float16(0.1)] * 2
    measured = as_saved(model).state_dict()
    assert all(np.array_equal(state[name], measured[name].numpy()) for name in state)


def test_a_failed_save_leaves_the_old_file_and_no_rubbish(tmp_path, card, monkeypatch):
    path = save_network(tmp_path / "model.safetensors", nn.Linear(1, 1), card | {"run": 1})

    def full_disk(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_network(path, nn.Linear(1, 1), card | {"run": 2})
    assert read_card(path) == card | {"run": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_strange_files_are_named_as_such(tmp_path, card):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        read_card(tmp_path / "none.safetensors")
    text = tmp_path / "text.safetensors"
    text.write_text("hello")
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        read_card(text)
    text.rename(page := tmp_path / "README.md")
    with pytest.raises(ValueError, match="no checkpoint: .*safetensors.* expression_small"):
        read_card(page)  # it was told of a "header too large"
    other = tmp_path / "other.safetensors"
    save_file({"w": torch.zeros(1)}, other)
    with pytest.raises(ValueError, match="of another system"):
        read_card(other)
    whole = save_network(tmp_path / "cut.safetensors", nn.Linear(50, 50), card)
    whole.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        read_card(whole)


def test_a_checkpoint_is_found_by_path_or_name(tmp_path, card):
    path = save_network(tmp_path / "net-faces.safetensors", nn.Linear(1, 1), card)
    for name in (path, str(path), "net-faces", "net"):
        assert resolve_checkpoint(name, tmp_path) == path
    with pytest.raises(FileNotFoundError, match="net-faces"):
        resolve_checkpoint("other", tmp_path)


def test_a_folder_of_the_same_name_is_no_checkpoint(tmp_path, card, monkeypatch):
    # In the repository "expression" is the network that serves, and a folder as well
    path = save_network(tmp_path / "expression-faces.safetensors", nn.Linear(1, 1), card)
    (tmp_path / "expression").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_checkpoint("expression", tmp_path) == path
