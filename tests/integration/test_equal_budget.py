"""Equal budgets on drawn faces: planned once, nothing is done twice, the test split is logged."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import budget_plan, equal_budget
from expression.face_detector import CropRule
from expression.preprocessing import Preprocess
from hf_collate import Decoded
from lab.data import Packed, pack
from lab.tensorboard_log import TensorBoardLog

pytestmark = pytest.mark.slow
NAMES = ("happy", "neutral", "sad")


def drawn() -> Packed:
    """Bright bands at three heights."""
    splits = {}
    for number, split in enumerate(("train", "validation", "test")):
        rng, labels = np.random.default_rng(number), np.arange(45) % 3
        pixels = rng.integers(0, 90, (45, 1, 48, 48), dtype=np.uint8)
        for row, label in enumerate(labels):
            pixels[row, 0, 12 * label : 12 * label + 12] += 120
        splits[split] = Decoded(
            torch.from_numpy(pixels), torch.from_numpy(labels), NAMES, Preprocess(48, "L")
        )
    return Packed(splits, "drawn", "0" * 16, CropRule(measured=45).settings())


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(TensorBoardLog, "start", lambda *_: None)
    monkeypatch.setattr(budget_plan, "SVM_FACES", (15, 30))
    monkeypatch.setattr(budget_plan, "TIMED", 2)
    monkeypatch.chdir(tmp_path)
    pack(drawn(), tmp_path / "drawn.npz")
    return ["--data", "drawn.npz", "--device", "cpu", "--minutes", "0.02", "--seeds", "1",
            "--runs", "runs", "--out", "told.json", "--only", "hog_svm"]  # fmt: skip


def read(name: str) -> Any:
    return json.loads(Path(name).read_text())


def test_a_network_and_an_svm_are_planned_once_and_trained_once(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command += ["--only", "tinyvgg"]
    assert equal_budget.main(command) == 0
    told, plan = read("told.json"), read("runs/plan.json")
    planned = plan["systems"]["tinyvgg"]
    assert told["systems"]["tinyvgg"]["epochs"] == planned["recipe"]["epochs"] >= 1
    assert planned["epoch_seconds"].keys() == {"48", "validation"}
    assert plan["systems"]["hog_svm"]["recipe"]["epochs"] == 0
    assert told["splits"].keys() == {"validation"} and told["openings"] == []
    known = read("runs/tinyvgg-seed0.json")
    assert known["figures"]["validation"]["n"] == 45
    assert known["parameters"] > 1000

    monkeypatch.setattr(budget_plan.Planner, "measure", lambda *_: pytest.fail("timed again"))
    with monkeypatch.context() as patch:
        patch.setattr(equal_budget.EqualBudget, "checkpoint", lambda *_: pytest.fail("again"))
        assert equal_budget.main(command) == 0
    assert read("told.json")["splits"] == told["splits"]
    # the second seed has the epochs of the first
    assert equal_budget.main([*command, "--seeds", "2"]) == 0
    again = read("runs/tinyvgg-seed1.json")["settings"]["recipe"]
    assert again == known["settings"]["recipe"]
    assert "sd" in read("told.json")["splits"]["validation"]["rows"]["tinyvgg"]["accuracy"]
    # other minutes, or another recipe of that name, are no rows of the same table
    assert equal_budget.main([*command, "--minutes", "1"]) == 2
    assert "minutes" in capsys.readouterr().err


def test_each_network_meets_the_test_split_once_and_the_log_says_so(command: list[str]) -> None:
    assert equal_budget.main(command) == 0
    log = Path("runs/results/test_openings.jsonl")
    assert not log.exists()
    for _ in range(2):
        assert equal_budget.main([*command, "--final"]) == 0
    told = read("told.json")
    assert len(log.read_text().splitlines()) == len(told["openings"]) == 1
    assert told["openings"][0]["sha256"] == read("runs/hog_svm-seed0.json")["sha256"]
    assert told["splits"].keys() == {"validation", "test"}


def test_a_quick_run_leaves_the_test_split_alone(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert equal_budget.main([*command, "--quick", "--final"]) == 2
    assert "--final" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_another_recipe_of_the_same_name_is_no_row_of_the_same_table(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert equal_budget.main(command) == 0
    plan = read("runs/plan.json")
    plan["systems"]["hog_svm"]["of"]["system_args"]["C"] = 1.0
    Path("runs/plan.json").write_text(json.dumps(plan))
    assert equal_budget.main(command) == 2
    assert "hog_svm" in capsys.readouterr().err


def test_a_system_that_needs_far_more_minutes_is_left_out_and_the_table_says_why(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert equal_budget.main([*command, "--only", "tinyvgg"]) == 0
    plan = read("runs/plan.json")
    plan["systems"]["tinyvgg"]["minutes"] = 2.0
    Path("runs/plan.json").write_text(json.dumps(plan))
    Path("runs/tinyvgg-seed0.json").unlink()
    assert equal_budget.main([*command, "--only", "tinyvgg"]) == 0
    told = read("told.json")
    assert told["systems"].keys() == {"hog_svm"}
    assert "2 minutes" in told["settings"]["left_out"]["tinyvgg"]
    assert equal_budget.main([*command[:-2], "--only", "tinyvgg"]) == 2
    assert "--minutes" in capsys.readouterr().err
