"""benchmarks/trainers.py: every trainer does the same work, and none can break the table."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from benchmarks import harness, trainer_baselines, trainers
from benchmarks.trainers import OURS, ROWS, Row, Settings, in_rounds, measure, table
from hf_collate import Collate

pytestmark = pytest.mark.slow
SMALL = Settings(pictures=10, size=16, batch_size=4, runs=2)  # the last batch is a short one
PLAIN = Row("train_loop", "plain", 0)


@pytest.fixture(scope="module")
def folder(splits: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("epoch")
    splits["train"].select(range(SMALL.pictures)).save_to_disk(path)
    return path


def figures(row: Row, *rates: float) -> dict[str, Any]:
    """A row as `measure` tells it."""
    told = {"name": row.name, "trainer": row.trainer, "loader": row.loader, "workers": row.workers}
    first = {"seconds": 12.34, "imports": 5.67}
    return {**told, "channels_last": False, "first": first, "rates": list(rates)}


# --- the same work for all ---


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_trains_on_every_picture_in_every_epoch(row: Row, folder: Path) -> None:
    # A trainer that drops the short last batch, or gathers two for a step, would look fast.
    told = measure(row, SMALL, folder)
    assert "error" not in told, told
    assert told["pictures"] == [10, 10, 10]
    assert len(told["rates"]) == SMALL.runs


def lazy(task: trainer_baselines.Task, share: float, steps: int) -> None:
    """A trainer that looks at a share of every batch, and takes so many steps an epoch."""
    for _ in range(task.epochs):
        for number, (images, labels) in enumerate(task.loader()):
            count = max(1, int(len(labels) * share))
            task.loss(task.model(images[:count]), labels[:count]).backward()
            if number < steps:
                task.optimizer.step()
        task.end_epoch()


@pytest.mark.parametrize(
    ("share", "steps", "said"), [(0.5, 3, "[5, 5, 5] pictures"), (1.0, 2, "[6] steps")]
)
def test_a_trainer_that_does_less_gets_no_figures(
    share: float, steps: int, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(trainers.TRAINERS, "train_loop", lambda task: lazy(task, share, steps))
    told = measure(PLAIN, SMALL, folder)
    assert said in told["error"] and "rates" not in told


def test_the_plain_loader_takes_gray_pictures_and_augments_each_anew() -> None:
    torch.manual_seed(0)
    rows = [{"image": Image.radial_gradient("L"), "label": 0}] * 8
    images, _ = Collate(trainer_baselines.plain_transform(24))(rows)
    assert images.shape == (8, 3, 24, 24) and images.dtype == torch.float32
    assert images.min() >= -1 and images.max() <= 1
    assert len({tuple(image.flatten().tolist()) for image in images}) == 8


# --- the table ---


def test_the_table_says_how_many_times_faster_by_the_medians() -> None:
    # Fastest against slowest would give any loop the answer that it likes.
    rows = [figures(OURS, 900, 3000, 3100.4), figures(PLAIN, 100, 1200, 2999)]
    lines = table({"rows": rows}).splitlines()
    assert lines[2] == "| `train_loop` | Batches | 12.3, 5.7 | 3,000 (900–3,100) | – |"
    assert lines[3].endswith("| 12.3, 5.7 | 1,200 (100–2,999) | 2.50 × |")
    assert {line.count("|") for line in lines} == {6}


def test_a_slower_loop_of_ours_is_told_as_well() -> None:
    rows = [figures(OURS, 9, 10, 11), figures(ROWS[4], 19, 20, 21)]
    assert table({"rows": rows}).endswith("| 0.50 × |")


def test_an_error_takes_no_other_figure_away() -> None:
    broken = {**figures(OURS), "error": "ValueError: a | b"}
    lines = table({"rows": [broken, figures(PLAIN, 1, 2, 3)]}).splitlines()
    assert lines[2] == "| `train_loop` | Batches | ValueError: a / b | – | – |"
    assert lines[3].endswith("| 2 (1–3) | – |")  # nothing to compare with


# --- what may go wrong ---


@pytest.mark.parametrize("package", ["lightning", "transformers", "fastai"])
def test_a_trainer_that_is_missing_is_a_row_that_says_so(
    package: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)  # importing it fails from here on
    told = measure(Row(package, "Batches"), SMALL, folder)
    assert "not installed" in told["error"] and package in told["error"]
    assert f"`{package}`" in table({"rows": [told]})


def test_a_trainer_that_raises_is_a_row_with_the_first_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(task: trainer_baselines.Task) -> None:
        raise RuntimeError("no such device\nand ten lines more")

    monkeypatch.setitem(trainers.TRAINERS, "train_loop", fail)
    assert measure(OURS, SMALL, folder)["error"] == "RuntimeError: no such device"


def test_rounds_take_turns_and_join_their_epochs_row_by_row() -> None:
    called: list[str] = []

    def call(row: Row) -> dict[str, Any]:
        called.append(row.name)
        broken = {"error": "it broke"} if len(called) == 4 else {}
        return figures(row, float(len(called))) | broken

    *_, rows = in_rounds(ROWS[:2], 3, call)
    assert called == [ROWS[0].name, ROWS[1].name] * 3
    assert rows[0]["rates"] == [1.0, 3.0, 5.0]
    assert rows[1]["error"] == "it broke"  # in one round is in the row


def test_a_process_that_dies_is_a_row_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(*_: Any) -> Any:
        raise ChildProcessError("the process of trainers ended with code 2")
        yield

    monkeypatch.setattr(harness, "child_rows", dead)
    told = trainers.in_own_process(OURS, SMALL, "nowhere")
    assert "code 2" in told["error"] and "code 2" in table({"rows": [told]})


def test_the_program_from_data_to_table(
    splits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # In a real process of its own, which refuses to time the plain loader with torchvision loaded.
    splits.save_to_disk(tmp_path / "drawn")
    out = tmp_path / "trainers.json"
    small = ["--pictures", "100", "--size", "16", "--epochs", "1", "--rounds", "1"]
    only = ["--only", "train_loop-plain-0", "--device", "cpu", "--out", str(out)]
    assert trainers.main(["--data", str(tmp_path / "drawn"), *small, *only]) == 0
    told = json.loads(out.read_text())
    (row,) = told["rows"]
    assert row["pictures"] == [100, 100], row  # 90 training rows: from the start again
    assert told["settings"]["pictures"] == 100 and "datasets" in told["versions"]
    assert capsys.readouterr().out.strip() == table(told)


def test_the_command_line_says_which_rows_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        trainers.main(["--data", "x", "--only", "keras"])
    said = capsys.readouterr().err
    assert "keras" in said and "train_loop-Batches" in said
