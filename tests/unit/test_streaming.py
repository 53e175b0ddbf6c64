"""Streamed Parquet files: each picture once an epoch whoever reads it, and what one pass finds.

Pictures are noise of their own, so that a picture's pixels say which row it is.
"""

import io
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Pil

from augment import Augment
from hf_collate import Batches, Decoded
from lab import datasets, stream_survey
from lab.data import Faces, preprocess
from lab.datasets.parquet_stream import open_parquet
from lab.processes import Part
from lab.recipe import Recipe
from lab.recipes import RECIPES
from lab.stream_batches import StreamedBatches, shuffled
from lab.streaming import read_streamed

CPU = torch.device("cpu")
NAMES = ["happy", "neutral", "sad"]
FILES = (40, 33, 40, 41, 37)  # rows of train's files: more than one turn of reading
RECIPE = Recipe("tinyvgg", size=8, mean=(0,), std=(1,), batch_size=32, augment=None,
                shuffle_buffer=50)  # fmt: skip


def picture(key: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(key).integers(0, 256, (8, 8), dtype=np.uint8)
    Pil.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write(path: Path, keys: Sequence[int], **changed: Any) -> None:
    """A Parquet file; the picture and the label of a row follow from its key."""
    columns: dict[str, Any] = {
        "image": [{"bytes": picture(key), "path": None} for key in keys],
        "label": [key % 3 for key in keys],
    }
    columns |= changed
    path.parent.mkdir(parents=True, exist_ok=True)
    features = Features(image=Image(), label=ClassLabel(names=NAMES))
    Dataset.from_dict(columns, features=features).to_parquet(str(path))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """191 rows of train in five files; two of validation's 20 are train's rows 0 and 50."""
    folder, first = tmp_path_factory.mktemp("faces") / "noise", 0
    for file, count in enumerate(FILES):
        write(folder / f"data/train-{file:05d}-of-00005.parquet", range(first, first + count))
        first += count
    write(folder / "data/val-00000-of-00001.parquet", [0, 50, *range(1000, 1018)])
    write(folder / "data/test-00000-of-00001.parquet", range(2000, 2012))
    return folder


@pytest.fixture(autouse=True)
def in_an_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # .expression_cache


def loader(folder: Path, recipe: Recipe = RECIPE, part: Part | None = None) -> StreamedBatches:
    faces = read_streamed(str(folder))
    made: Any = faces.batches(recipe, 0, CPU)["train"]
    return replace(made, part=part)


def shown(batches: Any) -> list[bytes]:
    """The pictures of one epoch, each by its pixels."""
    return [image.numpy().tobytes() for images, _ in batches for image in images]


# --- each picture once ---


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_an_epoch_shows_each_picture_once_over_all_processes(written: Path, count: int) -> None:
    # Files of different length: processes that each read to their end make unequal steps, and
    # the others wait for ever for their gradients; cut to the shortest, pictures are lost.
    everything, steps = [], set()
    for rank in range(count):
        mine = list(loader(written, part=Part(rank, count) if count > 1 else None))
        steps.add(len(mine))
        assert min(len(labels) for _, labels in mine) >= 2
        everything += shown(mine)
    assert steps == {6}  # ceil(191 / 32)
    assert len(everything) == len(set(everything)) == sum(FILES)


def test_a_process_opens_its_own_files_alone(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a hub's set every process would otherwise download everything
    opened: list[int] = []
    batches = loader(written, part=Part(1, 2))
    of_file = type(batches.data).of_file

    def spy(rows: Any, file: int) -> Iterator[Any]:
        opened.append(file)
        return of_file(rows, file)

    monkeypatch.setattr(type(batches.data), "of_file", spy)
    assert len(shown(batches)) == FILES[1] + FILES[3]
    assert sorted(opened) == [1, 3]


def test_order_follows_from_seed_and_epoch(written: Path) -> None:
    first = loader(written)
    epochs = [shown(first), shown(first)]
    assert epochs[0] != epochs[1]
    resumed = loader(written)
    resumed.epoch = 1  # as a run that goes on after its first epoch sets it
    assert shown(resumed) == epochs[1]
    other = replace(first, seed=1, epoch=0)
    assert shown(other) not in epochs


def test_the_largest_seed_is_taken(written: Path) -> None:
    large = replace(loader(written, part=Part(1, 2)), seed=2**32 - 1)
    assert len(next(iter(large))[1])


def test_files_that_hold_one_class_each_come_mixed(tmp_path: Path) -> None:
    # Read one behind the other, a buffer smaller than a file shows one class for hundreds of steps
    for label in range(3):
        keys = range(label, 900, 3)
        write(tmp_path / f"faces/train-{label:05d}-of-00003.parquet", keys)
    for split in ("validation", "test"):
        write(tmp_path / f"faces/{split}.parquet", range(6))
    batches = replace(loader(tmp_path / "faces"), buffer=50)
    for _, labels in list(batches)[:-1]:
        assert len(set(labels.tolist())) == 3


def test_buffer_draws_from_so_many_rows_only() -> None:
    assert list(shuffled(range(5), 1, 0)) == list(range(5))
    drawn = list(shuffled(range(1000), 100, 0))
    assert sorted(drawn) == list(range(1000)) and drawn != sorted(drawn)
    assert all(row < place + 100 for place, row in enumerate(drawn))


def test_same_figures_as_a_set_read_whole_in_the_same_order(written: Path) -> None:
    # One rule for pixels, changes and batches, whichever way the pictures come
    recipe = Recipe("tinyvgg", size=8, batch_size=32, augment=Augment(), mixup=0.0)
    streamed = loader(written, recipe)
    plain = replace(streamed, augment=None)
    order = [image for images, _ in plain for image in images]
    splits = datasets.load(written)
    decoded = Faces(splits, "noise", "0").decoded(preprocess(recipe))["train"]
    whole = {x.numpy().tobytes(): row for images, row in each(decoded) for x in images}
    rows = [whole[x.numpy().tobytes()] for x in order]
    batches = Batches(decoded, 32, augment=Augment(), indices=rows)
    for (images, labels), (ours, told) in zip(batches, streamed, strict=True):
        torch.testing.assert_close(images, ours, rtol=0, atol=0)
        assert torch.equal(labels, told)


def each(decoded: Decoded) -> Iterator[tuple[torch.Tensor, int]]:
    for row, (images, _) in enumerate(Batches(decoded, 1)):
        yield images, row


def test_classes_of_a_network_in_another_order(written: Path) -> None:
    faces = read_streamed(str(written)).with_classes(["sad", "happy", "neutral"], "network")
    batches = faces.batches(RECIPE, 0, CPU)
    train: Any = batches["train"]
    moved = torch.cat([labels for _, labels in train]).bincount()
    assert moved.tolist() == train.labels.bincount().tolist() == [63, 64, 64]
    assert batches["validation"].labels.tolist()[:2] == [1, 0]  # happy and sad there


# --- the pass before ---


def test_what_is_known_of_a_set_is_what_is_known_of_it_read_whole(written: Path) -> None:
    streamed, splits = read_streamed(str(written)), datasets.load(written)
    whole = Faces(splits, "noise", datasets.fingerprint(splits))
    assert streamed.fingerprint == whole.fingerprint and streamed.name == "noise"
    for split in ("validation", "test"):
        assert streamed.in_train[split].tolist() == whole.in_train[split].tolist()
    assert streamed.in_train["validation"].sum() == 2
    assert streamed.labels("train").tolist() == whole.labels("train").tolist()
    assert streamed.crop == whole.crop


def test_rows_that_cannot_be_used_are_left_out_and_told(
    written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Met in the middle of an epoch, one of them would end the run; skipped without being counted,
    # the schedule would have too many steps
    folder = shutil.copytree(written, tmp_path / "spoilt")
    keys = range(3000, 3010)
    images = [{"bytes": picture(key), "path": None} for key in keys]
    labels = [key % 3 for key in keys]
    images[2]["bytes"], images[4], labels[7] = picture(3002)[:60], None, -1
    write(folder / "data/train-00004-of-00005.parquet", keys, image=images, label=labels)
    batches = loader(folder)
    count = sum(FILES[:4]) + 7
    assert len(shown(batches)) == len(batches.rows) == count
    assert batches.survey.kept.tolist() == [*FILES[:4], 7]
    out = capsys.readouterr().out
    assert f"3 of {count + 3}" in out and "file 4 row 2" in out and "file 4 row 7" in out
    with pytest.raises(ValueError, match="file 4 row 2"):
        read_streamed(str(folder), strict=True)
    splits = datasets.load(folder)
    assert read_streamed(str(folder)).fingerprint == datasets.fingerprint(splits)


def test_the_pass_is_made_once_until_a_file_changes(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, looks = shutil.copytree(written, tmp_path / "copy"), []
    look = stream_survey._look
    monkeypatch.setattr(stream_survey, "_look", lambda *given: looks.append(1) or look(*given))
    before = [read_streamed(str(folder)).fingerprint for _ in range(2)]
    assert len(looks) == 1 and len(set(before)) == 1
    write(folder / "data/train-00001-of-00005.parquet", range(4000, 4030))
    after = read_streamed(str(folder))
    assert len(looks) == 2 and after.fingerprint not in before
    assert len(after.survey.labels) == sum(FILES) - 3


def test_a_file_that_changes_in_a_run_ends_it(written: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(written, tmp_path / "copy")
    batches = loader(folder)
    write(folder / "data/train-00001-of-00005.parquet", range(4000, 4010))
    with pytest.raises(ValueError, match="changed"):
        list(batches)


# --- what is refused ---


def test_more_processes_than_files(written: Path) -> None:
    with pytest.raises(ValueError, match="5 .*6 processes"):
        loader(written, part=Part(0, 6))


def test_a_file_too_small_for_its_process(tmp_path: Path, written: Path) -> None:
    # BatchNorm needs two pictures in each step
    folder = shutil.copytree(written, tmp_path / "uneven")
    for file in (2, 3, 4):
        (folder / f"data/train-{file:05d}-of-00005.parquet").unlink()
    write(folder / "data/train-00001-of-00005.parquet", range(4))
    with pytest.raises(ValueError, match="4 pictures for 6 steps"):
        replace(loader(folder), batch_size=8, part=Part(1, 2))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: shutil.rmtree(f), "no folder"),
        (lambda f: [p.unlink() for p in f.rglob("*.parquet")], "no Parquet"),
        (lambda f: [p.unlink() for p in f.rglob("val-*")], "no split validation"),
        (lambda f: (f / "data/train-00001-of-00005.parquet").write_bytes(b"PAR1"), "train-00001"),
    ],
)
def test_what_is_no_streamed_set(written: Path, tmp_path: Path, change: Any, words: str) -> None:
    folder = shutil.copytree(written, tmp_path / "copy")
    change(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        open_parquet(str(folder))


def test_pipes_are_not_opened(written: Path, tmp_path: Path, special_files: Any) -> None:
    folder = shutil.copytree(written, tmp_path / "copy")
    (folder / "data/train").mkdir()
    special_files(folder / "data/train", ".parquet")
    with pytest.raises(ValueError, match="not a file|cannot be read"):
        open_parquet(str(folder))


def test_numbers_without_class_names(written: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(written, tmp_path / "copy")
    for file in folder.rglob("*.parquet"):
        rows = Dataset.from_dict({"image": [{"bytes": picture(1), "path": None}], "label": [1]})
        rows.to_parquet(str(file))
    with pytest.raises(ValueError, match="class names"):
        open_parquet(str(folder))


def test_a_file_that_names_its_classes_otherwise(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `datasets` takes the names of one file for all: every label of the others would mean another
    folder = shutil.copytree(written, tmp_path / "copy")
    monkeypatch.setitem(globals(), "NAMES", NAMES[::-1])
    write(folder / "data/train-00002-of-00005.parquet", range(9))
    with pytest.raises(ValueError, match="train-00002.*sad.*neutral.*happy"):
        open_parquet(str(folder))


@pytest.mark.parametrize(
    "words",
    [
        ["train", "tinyvgg", "--limit", "100"],
        ["train", "tinyvgg", "--quick"],
        ["train", "tinyvgg", "--weighted-sampling", "0.5"],
        ["train", "tinyvgg", "--average", "0.9"],
        ["train", "tinyvgg", "--also", "synthetic"],
        ["train", "tinyvgg", "--votes", "fer2013new.csv"],
        ["train", "hog_svm"],
        ["explain", "expression"],
        ["pack"],
    ],
)
def test_what_needs_the_whole_set_is_told_before_data_are_read(words: list[str]) -> None:
    from lab.checks import UsageError
    from lab.large_data import check_large
    from lab.parsing import parse

    command, recipes = parse([*words, "--data", "nowhere", "--streaming"])
    with pytest.raises(UsageError, match="--streaming"):
        check_large(command, recipes)
    assert not recipes or recipes.keys() <= RECIPES.keys()
