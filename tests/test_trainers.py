"""benchmarks/trainers.py: every trainer does the same work, and none can break the table."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from benchmarks import rivals, trainers
from benchmarks.trainers import OURS, ROWS, Row, Settings, measure, measure_all, repeated, table
from hf_collate import Collate

SMALL = Settings(pictures=10, size=16, batch_size=4, runs=2)  # the last batch is a short one
PLAIN = Row("train_loop", "plain", 0)


@pytest.fixture(scope="module")
def folder(splits: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("epoch")
    repeated(splits["train"], SMALL.pictures).save_to_disk(path)
    return path


def figures(row: Row, *rates: float) -> dict[str, Any]:
    """A row as `measure` tells it."""
    slowest, median, fastest = rates
    told = {"name": row.name, "trainer": row.trainer, "loader": row.loader, "workers": row.workers}
    first = {"seconds": 12.34, "imports": 5.67}
    return {**told, "first": first, "median": median, "slowest": slowest, "fastest": fastest}


# --- the table ---


def test_the_table_says_how_many_times_faster_by_the_medians() -> None:
    # Fastest against slowest would give any loop the answer that it likes.
    rows = [figures(OURS, 900, 3000, 3100.4), figures(PLAIN, 100, 1200, 2999)]
    lines = table({"rows": rows}).splitlines()
    assert lines[2] == "| `train_loop` | Batches | 12.3, 5.7 | 3,000 (900–3,100) | – |"
    assert (
        lines[3] == "| `train_loop` | plain, 0 workers | 12.3, 5.7 | 1,200 (100–2,999) | 2.50 × |"
    )
    assert {line.count("|") for line in lines} == {6}


def test_a_slower_loop_of_ours_is_told_as_well() -> None:
    rows = [figures(OURS, 9, 10, 11), figures(ROWS[4], 19, 20, 21)]
    assert table({"rows": rows}).endswith("| 0.50 × |")


def test_without_our_row_or_with_an_error_in_it_nothing_is_compared() -> None:
    broken = {"name": OURS.name, "trainer": "train_loop", "loader": "Batches", "workers": 0,
              "error": "ValueError: a | b"}  # fmt: skip
    assert table({"rows": [figures(PLAIN, 1, 2, 3)]}).endswith("| 2 (1–3) | – |")
    lines = table({"rows": [broken, figures(PLAIN, 1, 2, 3)]}).splitlines()
    assert lines[2] == "| `train_loop` | Batches | ValueError: a \\| b | – | – |"
    assert lines[3].endswith("| 2 (1–3) | – |")


# --- the same work for all ---


@pytest.mark.parametrize("count", [4, 90, 200])
def test_the_split_is_repeated_or_cut_to_the_count(splits: Any, count: int) -> None:
    train = splits["train"]
    labels = train["label"][:] * 3
    rows = repeated(train, count)
    assert rows["label"][:] == labels[:count]
    assert rows[count - 1]["image"].tobytes() == train[(count - 1) % 90]["image"].tobytes()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_trains_on_every_picture_in_every_epoch(row: Row, folder: Path) -> None:
    # A trainer that drops the short last batch, or gathers two for a step, would look fast.
    told = measure(row, SMALL, folder)
    if told.get("error") == "not installed":
        pytest.skip(f"{row.trainer} is not installed")
    assert "error" not in told, told
    assert told["pictures"] == [10, 10, 10]
    assert len(told["rates"]) == SMALL.runs
    assert told["slowest"] <= told["median"] <= told["fastest"]


def lazy(task: rivals.Task, share: float, steps: int) -> None:
    """A trainer that looks at a share of every batch, and takes so many steps an epoch."""
    for _ in range(task.epochs):
        for number, (images, labels) in enumerate(task.loader()):
            count = max(1, int(len(labels) * share))
            task.loss(task.model(images[:count]), labels[:count]).backward()
            if number < steps:
                task.optimizer.step()
        task.end_epoch()


@pytest.mark.parametrize(
    ("share", "steps", "said"), [(0.5, 3, "on [5, 5, 5] pictures"), (1.0, 2, "took [6] steps")]
)
def test_a_trainer_that_does_less_gets_no_figures(
    share: float, steps: int, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(trainers.TRAINERS, "train_loop", lambda task: lazy(task, share, steps))
    told = measure(PLAIN, SMALL, folder)
    assert said in told["error"] and "median" not in told


def test_the_plain_way_takes_gray_pictures_and_changes_each_anew() -> None:
    torch.manual_seed(0)
    rows = [{"image": Image.radial_gradient("L"), "label": 0}] * 8
    images, _ = Collate(rivals.plain(24))(rows)
    assert images.shape == (8, 3, 24, 24) and images.dtype == torch.float32
    assert images.min() >= -1 and images.max() <= 1
    assert len({tuple(image.flatten().tolist()) for image in images}) == 8


# --- what may go wrong ---


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("lightning-plain-2", "lightning"),
        ("transformers-plain-2", "transformers"),
        ("transformers-Batches", "accelerate"),
        ("fastai-Batches", "fastai"),
    ],
)
def test_a_trainer_that_is_missing_is_a_row_that_says_so(
    name: str, missing: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = next(row for row in ROWS if row.name == name)
    monkeypatch.setattr(
        trainers, "find_spec", lambda package: None if package == missing else object()
    )
    told = measure(row, SMALL, folder)
    assert (told["name"], told["error"]) == (row.name, "not installed")
    assert f"`{row.trainer}`" in table({"rows": [told]})


def test_a_trainer_that_raises_is_a_row_with_the_first_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(task: rivals.Task) -> None:
        raise RuntimeError("no such device\nand ten lines more")

    monkeypatch.setitem(trainers.TRAINERS, "train_loop", fail)
    assert measure(OURS, SMALL, folder)["error"] == "RuntimeError: no such device"


def test_every_row_is_in_the_file_before_the_next_is_measured(tmp_path: Path) -> None:
    out, found = tmp_path / "new" / "trainers.json", []

    def call(row: Row, *_: Any) -> dict[str, Any]:
        found.append([r["name"] for r in json.loads(out.read_text())["rows"]] if found else [])
        if len(found) == 3:
            raise KeyboardInterrupt
        return figures(row, 1, 2, 3)

    with pytest.raises(KeyboardInterrupt):
        measure_all(list(ROWS), SMALL, tmp_path, {"threads": 1}, out, call)
    names = [row.name for row in ROWS]
    assert found == [[], names[:1], names[:2]]
    assert [r["name"] for r in json.loads(out.read_text())["rows"]] == names[:2]


def test_other_rows_stay_only_when_measured_in_the_same_conditions(tmp_path: Path) -> None:
    out = tmp_path / "trainers.json"

    def tell(rows: list[Row], rate: int, **conditions: Any) -> list[tuple[str, int]]:
        told = measure_all(rows, SMALL, tmp_path, conditions, out,
                           lambda row, *_: figures(row, rate, rate, rate))  # fmt: skip
        assert json.loads(out.read_text()) == told
        return [(row["name"], row["median"]) for row in told["rows"]]

    tell([PLAIN], 1, threads=2, date="Monday")
    both = tell([OURS], 2, threads=2, date="Tuesday")
    assert both == [(OURS.name, 2), (PLAIN.name, 1)]
    assert tell([OURS], 3, threads=1, date="Tuesday") == [(OURS.name, 3)]


def test_the_program_from_data_to_table(
    splits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lab import datasets

    monkeypatch.setattr(datasets, "load", lambda *_, **__: splits)
    monkeypatch.setattr(trainers.measure_all, "__defaults__", (measure, 1))  # in this process
    out = tmp_path / "trainers.json"
    small = ["--pictures", "10", "--size", "16", "--batch-size", "4", "--runs", "1"]
    only = ["--only", "train_loop-plain-0", "--device", "cpu", "--out", str(out)]
    assert trainers.main([*small, *only]) == 0
    told = json.loads(out.read_text())
    assert told["settings"]["pictures"] == 10 and told["threads"] == torch.get_num_threads()
    assert "torch" in told["versions"] and "not installed" not in told["versions"].values()
    assert [row["name"] for row in told["rows"]] == ["train_loop-plain-0"]
    assert capsys.readouterr().out.strip() == table(told)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(["--only", "keras"], "known are train_loop-Batches"), (["--runs", "0"], "--runs is 0")],
)
def test_the_command_line_says_what_is_wrong(
    wrong: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        trainers.main(wrong)
    assert said in capsys.readouterr().err


def test_a_row_in_its_own_process_is_measured_as_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(command: list[str], **_: Any) -> SimpleNamespace:  # without the seconds of a start
        assert command[:2] == [sys.executable, trainers.__file__]
        print("a trainer's greeting")
        code = trainers.main(command[2:])
        return SimpleNamespace(returncode=code, stdout=capsys.readouterr().out.encode())

    monkeypatch.setattr(subprocess, "run", run)
    told = trainers.in_own_process(PLAIN, SMALL, folder)
    assert (told["name"], told.get("pictures")) == (PLAIN.name, [10, 10, 10]), told


def test_a_process_that_dies_is_a_row_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainers, "__file__", "no_such_program.py")
    told = trainers.in_own_process(OURS, SMALL, "nowhere")
    assert "| its process ended with code 2 |" in table({"rows": [told]})


def test_rounds_put_the_epochs_of_all_rows_side_by_side(tmp_path: Path) -> None:
    called: list[str] = []

    def call(row: Row, *_: Any) -> dict[str, Any]:
        called.append(row.name)
        rate = float(len(called))
        return {"name": row.name, "rates": [rate], "median": rate, "slowest": rate, "fastest": rate}

    out = tmp_path / "trainers.json"
    told = measure_all(list(ROWS[:2]), SMALL, tmp_path, {}, out, call, rounds=3)
    assert called == [ROWS[0].name, ROWS[1].name] * 3
    assert [row["rates"] for row in told["rows"]] == [[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]]
    assert [row["median"] for row in told["rows"]] == [3.0, 4.0]
    failed = trainers.joined(told["rows"][0], {"name": ROWS[0].name, "error": "it broke"})
    assert failed["error"] == "it broke" and "median" not in failed
