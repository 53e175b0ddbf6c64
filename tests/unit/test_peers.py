"""Other people's networks: whole pictures, classes by name, and what is missing is named."""

import json
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks.peers import __main__ as peers


@pytest.fixture
def faces():
    from datasets import ClassLabel, Dataset, DatasetDict, Features
    from datasets import Image as ImageFeature

    pictures = [Image.new("RGB", (200, 200), (250, 10, 10)), Image.new("RGB", (300, 200))]
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["happy", "sad"])})
    rows = Dataset.from_dict({"image": pictures, "label": [0, 1]}, features=features)
    return SimpleNamespace(splits=DatasetDict({"validation": rows}))


def test_a_peer_gets_whole_pictures_in_the_colours_it_asks_for(faces):
    colour, gray = (peers.pixels_of(faces, "validation", mode) for mode in ("RGB", "L"))
    assert colour.shape == (2, 128, 128, 3) and gray.shape == (2, 128, 128, 1)
    assert colour[0, 64, 64].tolist() == [250, 10, 10] and colour.flags["C_CONTIGUOUS"]


def test_a_relabelled_data_set_shows_the_pictures_of_its_original(faces):
    relabelled = SimpleNamespace(original=faces, splits=None)
    assert peers.pixels_of(relabelled, "validation", "L").shape[0] == 2


def test_answers_come_back_by_class_name_and_a_failure_is_told(tmp_path, monkeypatch):
    def node(words, **kwargs):
        pixels = open(words[4], "rb").read()
        assert len(pixels) == 2 * 4 * 4 * 3 and words[3] == "4"
        np.float32([[0.9, 0.1], [0.2, 0.8]]).tofile(words[5])
        out = "a warning\n" + json.dumps({"classNames": ["sad", "fearful"]}) + "\n"
        return subprocess.CompletedProcess(words, 0, out, "")

    monkeypatch.setattr(peers.subprocess, "run", node)
    names, probs = peers.run_node(tmp_path, "human", np.zeros((2, 4, 4, 3), np.uint8))
    assert names == ["sad", "fearful"] and probs[1].tolist() == pytest.approx([0.2, 0.8])
    broken = subprocess.CompletedProcess([], 1, "", "no such backend")
    monkeypatch.setattr(peers.subprocess, "run", lambda *a, **k: broken)
    with pytest.raises(RuntimeError, match="human.*no such backend"):
        peers.run_node(tmp_path, "human", np.zeros((2, 4, 4, 3), np.uint8))


def test_a_peer_s_classes_are_joined_by_name(tmp_path):
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"numbers")
    row = peers.peer("face-api", weights, "a package 1.0", ["fearful", "surprised"], 7)
    assert row.card["class_names"] == ["fear", "surprise"] and row.card["kind"] == "peer"
    assert row.sha256 == peers.subjects.file_sha256(weights) and row.parameters == 7


def test_shapes_are_no_parameters():
    group = {"weights": [{"shape": [2, 3], "dtype": "float32"}, {"shape": [9], "dtype": "int32"}]}
    assert peers.parameters_of([group]) == peers.parameters_of({"weightsManifest": [group]}) == 6


def test_versions_are_pinned_and_the_readme_names_them():
    pins = json.loads((peers.HERE / "package.json").read_text())["dependencies"]
    readme = (peers.HERE / "README.md").read_text(encoding="utf-8")
    for package, version in pins.items():
        assert version[0].isdigit(), package
    for package, *_ in peers.NPM.values():
        assert f"{pins[package]} (npm)" in readme
    assert pins["@tensorflow/tfjs"] in readme


@pytest.mark.parametrize("lacking", ["node", "npm"])
def test_without_node_it_is_named(lacking, tmp_path, monkeypatch):
    monkeypatch.setattr(peers.shutil, "which", lambda name: None if name == lacking else name)
    with pytest.raises(ModuleNotFoundError) as error:
        peers.install(tmp_path)
    assert peers.why(error.value) == "node is not installed"
