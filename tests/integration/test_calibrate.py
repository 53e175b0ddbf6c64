"""A training ends with a calibrated card; `experiments.py calibrate` makes one answer of heads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import experiments
from expression.checkpoint import load_checkpoint, read_card, save_checkpoint
from expression.face_detector import CropRule
from expression.face_prediction import softmax
from expression.onnx_network import OnnxNetwork
from expression.preprocessing import Preprocess
from hf_collate import Batches, Decoded
from lab import evaluation, metrics, models
from lab.calibrated_checkpoint import target_of, write_calibrated
from lab.calibration_data import calibration_errors, validation_truth
from lab.data import Packed, pack
from lab.datasets import ferplus
from lab.results import Results

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
NAMES = ("happy", "neutral", "sad")
COUNTS = {"train": 96, "validation": 240, "test": 30}


def drawn(count: int, seed: int, names: tuple[str, ...] = NAMES) -> Decoded:
    """Stripes of three kinds in noise, one label in four wrong."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(count) % 3
    pixels = rng.integers(0, 90, (count, 1, 24, 24), dtype=np.uint8)
    for row, kind in enumerate(kinds):
        pixels[row, 0, 8 * kind : 8 * kind + 8] += 120
    labels = np.where(rng.random(count) < 0.25, rng.integers(0, 3, count), kinds)
    return Decoded(torch.from_numpy(pixels), torch.from_numpy(labels), names, Preprocess(24, "L"))


def voted(count: int) -> torch.Tensor:
    """Seven of ten votes (count, 10) for the stripe that is drawn; nobody's for the sixth face."""
    votes = np.zeros((count, 10), np.uint8)
    columns = [ferplus.VOTE_NAMES.index(n) for n in ("happiness", "neutral", "sadness")]
    votes[np.arange(count), np.array(columns)[np.arange(count) % 3]] = 7
    votes[:, ferplus.VOTE_NAMES.index("surprise")] = 3
    votes[5] = [0] * 9 + [10]
    return torch.from_numpy(votes)


@pytest.fixture(scope="module")
def faces() -> Packed:
    splits = {name: drawn(count, seed) for seed, (name, count) in enumerate(COUNTS.items())}
    splits["validation"].pixels[7] = splits["train"].pixels[7]  # a face that was learnt
    votes = {name: voted(count) for name, count in COUNTS.items()}
    crop = CropRule(measured=96).settings()
    return Packed(splits, "stripes", "0" * 16, crop, votes, ferplus.VOTE_NAMES)


@pytest.fixture(scope="module")
def home(faces: Packed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both data sets, a trained checkpoint and what `calibrate` made of it."""
    folder = tmp_path_factory.mktemp("calibrate")
    street = Packed(
        {name: drawn(60, 9 + k, ("Sadness", "happy", "neutral")) for k, name in enumerate(COUNTS)},
        "street", "1" * 16, CropRule(measured=60).settings(),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        pack(faces, Path("stripes.npz"), side=24)
        pack(street, Path("street.npz"), side=24)
        experiments.main(
            ["train", "baseline_cnn", "--data", "stripes.npz", "--size", "24", "--epochs", "2",
             "--batch-size", "16", "--lr", "3e-3", "--schedule", "onecycle",
             "--heads", "label", "votes", "--device", "cpu"]
        )  # fmt: skip
        experiments.main(calibrate_words())
    return folder


def calibrate_words() -> list[str]:
    return ["calibrate", "checkpoints/baseline_cnn-stripes.safetensors", "--data", "stripes.npz",
            "--also", "street.npz", "--to", "served", "--device", "cpu"]  # fmt: skip


def card_of(home: Path, name: str) -> dict[str, Any]:
    return read_card(home / "checkpoints" / f"{name}.safetensors")


def test_a_training_ends_with_a_card_calibrated_on_the_crowd_it_learnt_from(home: Path) -> None:
    card = card_of(home, "baseline_cnn-stripes")
    told = card["calibration"]
    # 240 faces, one of them nobody took for a face, one that was trained on
    assert (told["truth"], told["n"], told["risk"]) == ("majority", 238, 0.10)
    assert card["temperature"] == told["temperature"] != 1
    assert told["loss_after"] < told["loss_before"]
    assert "Temperature" in (home / "checkpoints" / "baseline_cnn-stripes.md").read_text()


def test_calibrate_writes_a_new_checkpoint_and_leaves_the_weights(home: Path) -> None:
    old, new = (
        load_checkpoint(home / "checkpoints" / f"{name}.safetensors")
        for name in ("baseline_cnn-stripes", "served")
    )
    assert old[0].keys() == new[0].keys()
    assert all(np.array_equal(array, new[0][name]) for name, array in old[0].items())
    assert "choice" not in old[1] and old[1]["heads"] == {"label": 1.0, "votes": 1.0}
    choice = new[1]["choice"]
    assert choice["columns"] == ["weight label", "weight votes", "prior_correction",
                                 "label accuracy", "majority accuracy",
                                 "street mean recall"]  # fmt: skip
    chosen = choice["grid"][choice["chosen"]]
    assert [*new[1]["heads"].values(), new[1]["prior_correction"]] == chosen[:3]
    assert len(choice["grid"]) == 15
    assert choice["faces"] == {"label": 240, "majority": 239, "street": 60}
    assert "--also street.npz --to served" in choice["command"]
    assert (home / "results" / "served" / "frontier.png").stat().st_size > 10_000
    assert "Heads" in (home / "checkpoints" / "served.md").read_text()


def test_the_chosen_figures_are_those_of_the_network_that_is_served(
    home: Path, faces: Packed
) -> None:
    path = home / "checkpoints" / "served.safetensors"
    state, card = load_checkpoint(path)
    rows = faces.decoded(Preprocess(**card["preprocess"]))["validation"]
    logits, labels = metrics.collect(models.restore(state, card), Batches(rows))
    row = card["choice"]["grid"][card["choice"]["chosen"]]
    assert (logits.argmax(1) == labels).double().mean().item() == pytest.approx(row[3], abs=1e-5)
    told = card["validation"]
    assert (told["k"], told["n"]) == (int((logits.argmax(1) == labels).sum()), 240)
    assert told["majority"] == round(labels.bincount().max().item() / 240, 4)
    images, _ = next(iter(Batches(rows, 8)))
    exported = OnnxNetwork(path.with_suffix(".onnx"))
    assert exported.card == card
    assert np.allclose(exported(images.numpy()), logits[:8], atol=1e-4)


def test_the_temperature_is_applied_once_where_faces_are_answered_and_never_stored(
    home: Path, faces: Packed, open_predictor: Any, tmp_path: Path
) -> None:
    path = home / "checkpoints" / "served.safetensors"
    predictor = open_predictor(path)
    temperature = card_of(home, "served")["temperature"]
    rows = faces.decoded(Preprocess(**predictor.card["preprocess"]))["validation"]
    images, _ = next(iter(Batches(rows, 8)))
    logits = predictor.network(images.numpy())
    face = faces.splits["validation"].pixels[0, 0].numpy()
    said = predictor.predict(face)
    expected = softmax(logits[:1] / temperature)[0]
    assert [said[name] for name in NAMES] == pytest.approx(expected, abs=1e-3)
    folder = evaluation.evaluate(path, faces, tmp_path, CPU, ways=("plain",))
    result = Results(tmp_path / "results").measured(path)[0]
    stored = result.answers.probabilities[:8]
    assert np.allclose(stored, softmax(logits), atol=1e-3)
    before, after = calibration_errors(result, temperature)
    assert before != after and (folder / "stripes-validation-calibration.png").exists()
    truth, _ = validation_truth(faces, torch.arange(240), crowd=True)
    told = card_of(home, "served")["calibration"]
    errors = calibration_errors(result, temperature, truth.numpy())
    assert errors == pytest.approx((told["ece_before"], told["ece_after"]), abs=0.01)


def test_no_file_is_replaced(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(home)
    before = (home / "checkpoints" / "served.safetensors").read_bytes()
    with pytest.raises(SystemExit, match="served.safetensors"):
        experiments.main(calibrate_words())
    assert (home / "checkpoints" / "served.safetensors").read_bytes() == before
    assert "in train too" not in capsys.readouterr().out  # refused before data were read
    source = [Path("checkpoints/a-fer2013.safetensors")]
    assert target_of(Path(), source, None).name == "a_calibrated-fer2013.safetensors"
    with pytest.raises(ValueError, match=r"\.\./a"):
        target_of(Path(), source, "../a")


def test_the_test_split_is_not_looked_at(home: Path, faces: Packed, tmp_path: Path) -> None:
    opened = []

    class Closed(dict):
        """Splits that note when the test split is read, also in passing."""

        def __getitem__(self, name: str) -> Any:
            opened.extend([name] if name == "test" else [])
            return super().__getitem__(name)

        def items(self) -> Any:
            opened.extend(["test"] if "test" in self else [])
            return super().items()

    closed = Packed(Closed(faces.splits), faces.name, faces.fingerprint, faces.crop,
                    Closed(faces.packed_votes), faces.vote_names)  # fmt: skip
    assert closed.decoded(Preprocess(24, "L")) and opened  # what must not be done here
    assert closed.in_train  # which pictures are the same: no labels
    opened.clear()
    source = home / "checkpoints" / "baseline_cnn-stripes.safetensors"
    state, card = load_checkpoint(source)
    source = save_checkpoint(
        tmp_path / "old.safetensors", state, {**card, "test": {"k": 1, "n": 2}}
    )
    write_calibrated(source, closed, (), tmp_path / "checkpoints" / "x.safetensors", CPU)
    assert not opened
    told = json.loads((tmp_path / "results" / "x" / "checkpoint.json").read_text())["card"]
    assert "test" not in told  # the old answer's figure is not the new one's
    served = card_of(home, "served")["choice"]["grid"]
    assert [row[:5] for row in served] == told["choice"]["grid"]


def test_data_without_votes_are_refused(home: Path, faces: Packed, tmp_path: Path) -> None:
    bare = Packed(faces.splits, faces.name, faces.fingerprint, faces.crop)
    source = home / "checkpoints" / "baseline_cnn-stripes.safetensors"
    with pytest.raises(ValueError, match="--votes"):
        write_calibrated(source, bare, (), tmp_path / "checkpoints" / "x.safetensors", CPU)
    assert not (tmp_path / "checkpoints").exists()
