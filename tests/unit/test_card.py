"""expression/card.py: a stranger's card is right, or refused by name in one sentence."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from expression import cli
from expression.about import headline
from expression.app.handlers import Handlers
from expression.card import check_card
from expression.checkpoint import CHECKPOINTS, default_checkpoint, list_checkpoints, read_card
from expression.preprocessing import Preprocess
from lab.models.hog_svm import HogSvm

COMMITTED = sorted(CHECKPOINTS.glob("*-fer2013.safetensors")) + sorted(
    CHECKPOINTS.glob("*-muxspace.safetensors")
)


def good():
    return {
        "system": "tinyvgg",
        "system_args": {"hidden_channels": 8, "stem": "stock", "widths": [1, 2]},
        "class_names": ["happy", "sad"],
        "preprocess": json.loads(json.dumps(Preprocess(48, "L").settings())),
        "temperature": 1,
        "crop": "whole picture",
        "data": {"name": "faces", "fingerprint": "0"},
        "validation": {"k": 3, "n": 4},
        "new": {"anything": [None]},
    }


def write(path, text):
    save_file({"w": torch.zeros(1)}, path, metadata={"expression": text})
    return path


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_cards_fit(path):
    with safe_open(path, framework="np") as file:
        assert read_card(path) == json.loads(file.metadata()["expression"])


def test_older_cards_and_other_systems_fit():
    assert len(COMMITTED) >= 8
    assert check_card(good(), "x") == good()
    svm = {**good(), "system": "hog_svm", "system_args": HogSvm(num_classes=2).arguments()}
    assert check_card(json.loads(json.dumps(svm)), "x")["system"] == "hog_svm"
    bare = {k: good()[k] for k in ("system", "class_names", "preprocess", "data")}
    assert check_card(bare, "x") == bare


WRONG = [
    ("class_names", []),
    ("class_names", "happy"),
    ("class_names", ["happy", "happy"]),
    ("class_names", ["happy", " "]),
    ("class_names", ["happy", 3]),
    ("system", 5),
    ("system_args", [1]),
    ("system_args", {"hidden_channels": 10**12}),
    ("system_args", {"hidden_channels": float("nan")}),
    ("system_args", {"widths": [[1]]}),
    ("temperature", 0),
    ("temperature", float("inf")),
    ("temperature", 1e-300),
    ("temperature", "1"),
    ("temperature", True),
    ("min_confidence", 1),
    ("min_confidence", -0.1),
    ("min_confidence", float("nan")),
    ("min_confidence", "0.5"),
    ("calibration", 0.5),
    ("choice", []),
    ("preprocess.size", 100_000),
    ("preprocess.size", 48.0),
    ("preprocess.channels", 2),
    ("preprocess.mode", "CMYK"),
    ("preprocess.mode", "a" * 100_000),
    ("preprocess.mean", [0.1, 0.2]),
    ("preprocess.std", [0.0]),
    ("preprocess.std", [1e-300]),
    ("heads", {}),
    ("heads", {"label": 0}),
    ("heads", {"label": 2, "votes": -1}),
    ("priors", {"label": [0.2, 0.3, 0.5]}),
    ("priors", {"label": [0.2, 7]}),
    ("preprocess.std", [float("nan")]),
    ("preprocess.colour", 1),
    ("crop", {"loose": 1}),
    ("crop", 3),
    ("data", {"fingerprint": "0"}),
    ("data.name", ""),
    ("data.further", [{"fingerprint": "0"}]),
    ("data.further", {"name": "more"}),
    ("validation", {"k": 0, "n": 0}),
    ("validation", {"k": 5, "n": 4}),
    ("epoch", -1),
    ("recipe", []),
]


@pytest.mark.parametrize(("key", "value"), WRONG, ids=lambda value: repr(value)[:40])
def test_a_wrong_value_is_refused_with_file_key_and_what_was_found(key, value):
    card, (first, _, second) = good(), key.partition(".")
    if second:
        card[first][second] = value
    else:
        card[first] = value
    with pytest.raises(ValueError) as refused:
        check_card(card, "some.safetensors")
    said = str(refused.value)
    assert "some.safetensors" in said and first in said and "\n" not in said and len(said) < 500
    assert second in said and len(said) < 700


@pytest.mark.parametrize("key", ["system", "class_names", "preprocess", "data"])
def test_a_missing_key_is_named(key):
    card = good()
    del card[key]
    with pytest.raises(ValueError, match=f"{key} is missing"):
        check_card(card, "x")


def deep(depth=10_000):
    return f'{{"system": {"[" * depth}{"]" * depth}}}'


BROKEN = {
    "list": "[1, 2]",
    "number": "7",
    "deep": deep(),
    "nested": deep(500),
    "no_classes": json.dumps({k: v for k, v in good().items() if k != "class_names"}),
    "types": json.dumps({**good(), "class_names": {"a": 1}, "validation": "3/4"}),
    "not_json": "{",
}


def test_broken_files_stop_neither_the_list_nor_the_default_nor_the_demo(tmp_path, capsys):
    # One such file in checkpoints/ ended `predict.py --list` and the demo in a traceback
    write(tmp_path / "good.safetensors", json.dumps(good()))
    for name, text in BROKEN.items():
        write(tmp_path / f"{name}.safetensors", text)
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    (tmp_path / "folder.safetensors").mkdir()
    save_file({"w": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    assert list(list_checkpoints(tmp_path)) == ["good"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(BROKEN) + 3
    for name in (*BROKEN, "cut", "folder", "foreign"):
        assert sum(f"{name}.safetensors" in line for line in lines) == 1, name
    assert default_checkpoint(tmp_path) == tmp_path / "good.safetensors"


def test_a_card_with_the_needed_keys_alone_is_listed_and_described(tmp_path):
    bare = {k: good()[k] for k in ("system", "class_names", "preprocess", "data")}
    write(tmp_path / "bare.safetensors", json.dumps(bare))
    assert "tinyvgg" in headline(list_checkpoints(tmp_path)["bare"])
    assert "happy" in Handlers(tmp_path).about("bare")


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_file_that_is_named_is_refused_in_one_sentence(name, tmp_path: Path, capsys):
    path = write(tmp_path / f"{name}.safetensors", BROKEN[name])
    assert cli.main(["x.png", "--checkpoint", str(path)]) == 2
    said = capsys.readouterr().err
    assert path.name in said and said.count("\n") == 1


def test_a_long_header_is_not_recited(tmp_path):
    # A card in the wrong place was quoted whole: 1,271 characters of it in one refusal
    header = json.dumps({"__metadata__": "x" * 5000}).encode()
    path = tmp_path / "wrong.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ValueError, match="not a whole safetensors file") as refused:
        read_card(path)
    assert len(str(refused.value)) - len(str(path)) < 400
