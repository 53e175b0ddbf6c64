"""The mean of several trainings' weights: a new checkpoint that tells them all, of one start."""

from pathlib import Path

import numpy as np
import pytest

import experiments
from expression.checkpoint import load_checkpoint, read_card
from expression.face_detector import CropRule
from hf_collate import Decoded
from lab.data import Packed, pack
from lab.provenance import totals
from tests.integration.test_calibrate import drawn

pytestmark = pytest.mark.slow
NAMES = ("angry", "happy", "neutral")
WORDS = ["train", "baseline_cnn", "--data", "stripes.npz", "--size", "24", "--epochs", "1",
         "--schedule", "constant", "--warmup", "0", "--device", "cpu"]  # fmt: skip


def splits(seed: int) -> dict[str, Decoded]:
    return {s: drawn(60, seed + k, NAMES) for k, s in enumerate(("train", "validation", "test"))}


def file(name: str) -> Path:
    return Path("checkpoints") / f"{name}.safetensors"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks that went on from one start, one from random weights, and two data sets."""
    folder = tmp_path_factory.mktemp("average")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, seed in (("stripes", 0), ("street", 9)):
            rule = CropRule(measured=60).settings()
            pack(Packed(splits(seed), name, str(seed) * 16, rule), Path(f"{name}.npz"), side=24)
        experiments.main(WORDS)
        for seed in ("1", "2"):
            start = ["--init-from", str(file("baseline_cnn-stripes")), "--seed", seed]
            experiments.main([*WORDS, *start])
        experiments.main([*WORDS, "--seed", "3"])
    return folder


@pytest.fixture(autouse=True)
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def average(*names: str, to: str, data: str = "stripes.npz", shares: str = "") -> None:
    words = ["--shares", *shares.split()] if shares else []
    paths = [str(file(name)) for name in names]
    experiments.main(["average", *paths, *words, "--data", data, "--to", to, "--device", "cpu"])


def test_weights_are_the_weighted_mean_and_the_card_tells_every_training() -> None:
    names = ("baseline_cnn-stripes-seed1", "baseline_cnn-stripes-seed2")
    average(*names, to="mean", shares="3 1")
    (one, _), (two, _), (both, card) = (load_checkpoint(file(name)) for name in (*names, "mean"))
    learnt = [name for name, array in one.items() if array.dtype.kind == "f"
              and "running" not in name]  # fmt: skip
    assert learnt
    for name in learnt:
        wanted = 0.75 * one[name].astype(float) + 0.25 * two[name].astype(float)
        assert np.allclose(both[name], wanted, atol=2e-3), name
        assert not np.array_equal(both[name], one[name]) or np.array_equal(one[name], two[name])
    assert [member["share"] for member in card["averaged"]["members"]] == [0.75, 0.25]
    assert totals(card)[1] == 3 and len(card["stages"]) == 2  # the start, and one of the two
    assert card["validation"]["n"] == 60 and card["temperature"] == 1 and "calibration" not in card
    told = file("mean").with_suffix(".md").read_text()
    assert "75% `baseline_cnn-stripes-seed1`" in told and "--shares 0.75 0.25" in told


def test_two_of_the_same_are_that_network_but_for_batchnorm() -> None:
    name = "baseline_cnn-stripes-seed1"
    average(name, name, to="same")
    (one, _), (same, _) = load_checkpoint(file(name)), load_checkpoint(file("same"))
    assert all(np.array_equal(same[k], v) for k, v in one.items() if "running" not in k
               and v.dtype.kind == "f")  # fmt: skip


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        (("baseline_cnn-stripes-seed1",), {}, "two checkpoints or more"),
        (("baseline_cnn-stripes-seed1", "baseline_cnn-stripes-seed2"), {"shares": "1"}, "--shares"),
        (("baseline_cnn-stripes-seed1", "baseline_cnn-stripes-seed2"), {"shares": "1 0"},
         "--shares"),
        (("baseline_cnn-stripes-seed1", "baseline_cnn-stripes-seed3"), {}, "one checkpoint"),
        (("baseline_cnn-stripes", "baseline_cnn-stripes-seed3"), {}, "one checkpoint"),
        (("baseline_cnn-stripes-seed1", "baseline_cnn-stripes-seed2"), {"data": "street.npz"},
         "other data"),
        (("baseline_cnn-stripes-seed1", "baseline_cnn-stripes-seed2"),
         {"to": "baseline_cnn-stripes"}, "never replaced"),
    ],
)  # fmt: skip
def test_what_cannot_be_averaged_is_refused(
    names: tuple[str, ...], options: dict[str, str], said: str
) -> None:
    with pytest.raises(SystemExit, match=said):
        average(*names, **{"to": "refused", **options})
    assert not file("refused").exists() and read_card(file("baseline_cnn-stripes"))["seed"] == 0
