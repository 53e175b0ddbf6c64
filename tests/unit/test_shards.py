"""Shards of decoded pictures: the figures of the set that they were made from, and no other."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from augment import Augment
from expression.preprocessing import Preprocess
from hf_collate import Decoded
from lab import datasets, duplicates, shard_writer
from lab.data import Faces, Packed, read
from lab.processes import Part
from lab.recipe import Recipe
from lab.shard_writer import write_shards
from lab.shards import ShardedPixels, block_order, read_shards

CPU = torch.device("cpu")
RULE = Preprocess(24, "L", mean=(0.5,), std=(0.25,))
SHARD = 24 * 24 * 40  # bytes: 40 pictures, so that train's 90 are in three files


@pytest.fixture(scope="module")
def faces(splits: Any) -> Faces:
    return Faces(splits, "drawn", datasets.fingerprint(splits))


@pytest.fixture(scope="module")
def written(faces: Faces, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home") / "drawn_shards"
    return write_shards(faces, folder, RULE, SHARD)


@pytest.fixture(autouse=True)
def in_an_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # .expression_cache


def test_what_is_known_is_what_is_known_of_the_set(faces: Faces, written: Path) -> None:
    shards = read(str(written))
    for name in ("name", "fingerprint", "class_names", "crop"):
        assert getattr(shards, name) == getattr(faces, name)
    for split in ("train", "validation", "test"):
        assert torch.equal(shards.labels(split), faces.labels(split))
    for split in ("validation", "test"):
        assert shards.in_train[split].tolist() == faces.in_train[split].tolist()
    assert len(list(written.glob("train-0*.npy"))) == 3


@pytest.mark.parametrize("count", [1, 2, 3])
def test_batches_are_those_of_the_set_for_any_number_of_processes(
    faces: Faces, written: Path, count: int
) -> None:
    # Bit for bit: the same pictures, in the same order, changed alike
    recipe = Recipe("tinyvgg", size=24, batch_size=32, augment=Augment())
    whole = faces.batches(recipe, 3, CPU)["train"]
    shards = read_shards(written).batches(recipe, 3, CPU)["train"]
    assert isinstance(shards.data.pixels, ShardedPixels)
    parts = [replace(shards, part=Part(rank, count)) for rank in range(count)]
    for _ in range(2):  # epochs
        for (images, labels), *slices in zip(whole, *parts, strict=True):
            assert torch.equal(images, torch.cat([found for found, _ in slices]))
            assert torch.equal(labels, torch.cat([found for _, found in slices]))


def test_pixels_are_indexed_as_a_tensor(faces: Faces, written: Path) -> None:
    pixels = read_shards(written).splits["train"].pixels
    whole = faces.decoded(RULE)["train"].pixels
    assert pixels.shape == tuple(whole.shape) and pixels.nbytes == whole.nbytes
    for index in (slice(35, 85, 7), [89, 0, 40, 39, 0], torch.tensor([80]), ([41, 3], 0)):
        assert torch.equal(pixels[index], whole[index]), index
    assert torch.equal(pixels.to("cpu"), whole)
    assert torch.equal(torch.stack(list(pixels)), whole)


def test_hashes_of_pictures_in_several_files(faces: Faces, written: Path) -> None:
    # The matrix compares the pictures of two data sets by them
    rows = read_shards(written).splits["train"]
    assert np.array_equal(duplicates.hashes(rows), duplicates.hashes(faces.decoded(RULE)["train"]))
    assert list(duplicates.digests(rows)) == list(duplicates.digests(faces.decoded(RULE)["train"]))


def test_hashes_of_colour_pictures_see_all_colours() -> None:
    # Of colour pictures the red band alone was looked at, so that these two were the same one
    pixels = np.zeros((2, 3, 24, 24), np.uint8)
    pixels[:, 1] = np.random.default_rng(0).integers(0, 256, (2, 24, 24))
    rows = Decoded(torch.from_numpy(pixels), torch.zeros(2), ("a",), Preprocess(24, "RGB"))
    found = duplicates.hashes(rows)
    assert not duplicates.same_picture(found[:1], found[1:]).any()
    pictures = [Image.fromarray(each.transpose(1, 2, 0)) for each in pixels]
    assert [np.asarray(p).tolist() for p in map(duplicates.picture_of, pixels)] == [
        np.asarray(p).tolist() for p in pictures
    ]


def test_a_network_in_another_order_and_other_sizes(written: Path) -> None:
    shards = read_shards(written)
    moved = shards.with_classes(["sad", "happy", "neutral"], "network")
    assert moved.decoded(RULE)["train"].labels.tolist() == [
        (1, 2, 0)[label] for label in shards.labels("train").tolist()
    ]
    # Resized once more, pictures would be others than those of the set
    with pytest.raises(ValueError, match="size=24.*size=32"):
        shards.decoded(replace(RULE, size=32))
    with pytest.raises(ValueError, match="mode=L.*mode=RGB"):
        shards.decoded(Preprocess(24, "RGB"))


def test_votes_and_colour_are_kept(written: Path, tmp_path: Path) -> None:
    pixels = torch.randint(256, (9, 1, 8, 8), dtype=torch.uint8)
    labels = torch.arange(9) % 2
    split = Decoded(pixels, labels, ("happy", "sad"), Preprocess(8, "L"))
    splits: Any = dict.fromkeys(("train", "validation", "test"), split)
    votes = dict.fromkeys(splits, torch.arange(18, dtype=torch.uint8).view(9, 2))
    packed = Packed(splits, "noise", "0", {"kind": "whole"}, votes, ("happiness", "sadness"))
    found = read_shards(write_shards(packed, tmp_path / "gray", Preprocess(8, "L")))
    assert torch.equal(found.decoded(Preprocess(8, "L"))["test"].pixels, pixels)
    counts = found.vote_counts("validation")
    assert counts and torch.equal(counts[0], votes["test"]) and counts[1] == packed.vote_names
    colour = read_shards(write_shards(found, tmp_path / "colour", Preprocess(8, "RGB")))
    assert torch.equal(colour.splits["test"].pixels, pixels.expand(9, 3, 8, 8))


def test_order_in_blocks_shows_each_picture_once_and_stays_near() -> None:
    rows = block_order(2000, 512, torch.Generator().manual_seed(0))
    assert sorted(rows.tolist()) == list(range(2000))
    again = block_order(2000, 512, torch.Generator().manual_seed(0))
    other = block_order(2000, 512, torch.Generator().manual_seed(1))
    assert torch.equal(rows, again) and not torch.equal(rows, other)
    for part in rows.split(512):  # in 512 rows in a row: of a few blocks, not of the whole file
        assert len(set((part // 256).tolist())) <= 4
    assert len(set((rows[:512:2] // 256).tolist())) > 1  # and mixed


def test_a_run_that_was_cut_off_is_gone_on_with(
    faces: Faces, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, write, done = tmp_path / "shards", shard_writer._write_shard, []

    def cut(path: Path, *given: Any) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(path.name)
        write(path, *given)

    with monkeypatch.context() as patch:
        patch.setattr(shard_writer, "_write_shard", cut)
        with pytest.raises(KeyboardInterrupt):
            write_shards(faces, folder, RULE, SHARD)
    with pytest.raises(ValueError, match="other shards"):
        write_shards(faces, folder, replace(RULE, size=16), SHARD)
    first = folder / "train-00000-of-00003.npy"
    before = first.stat().st_mtime_ns
    write_shards(faces, folder, RULE, SHARD)
    assert first.stat().st_mtime_ns == before
    names = {path.name for path in written.iterdir()}
    assert {path.name for path in folder.iterdir()} == names
    for name in names:
        assert (folder / name).read_bytes() == (written / name).read_bytes(), name


def test_a_folder_with_other_content_is_left_alone(faces: Faces, written: Path) -> None:
    before = sorted(path.name for path in written.iterdir())
    with pytest.raises(ValueError, match="new folder"):
        write_shards(faces, written, RULE, SHARD)
    assert sorted(path.name for path in written.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("train-00001-of-00003.npy", Path.unlink),
        ("train-00002-of-00003.npy", lambda p: p.write_bytes(p.read_bytes()[:-9])),
        ("train-00002-of-00003.npy", lambda p: np.save(p, np.zeros((10, 1, 9, 9), np.uint8))),
        ("test-labels.npy", lambda p: np.save(p, np.full(45, 3, np.uint16))),
        ("validation-in_train.npy", lambda p: p.write_bytes(b"\x93NUMPY")),
        ("shards.json", lambda p: p.write_text("[]")),
        ("shards.json", lambda p: p.write_text(json.dumps({"name": "drawn"}))),
    ],
)
def test_a_damaged_file_is_named(written: Path, tmp_path: Path, name: str, change: Any) -> None:
    folder = shutil.copytree(written, tmp_path / "copy")
    change(folder / name)
    with pytest.raises(ValueError, match=name):
        read_shards(folder)


def test_a_changed_pixel_is_found_with_strict(written: Path, tmp_path: Path) -> None:
    # Reading a terabyte at each start for its checksum would take an hour: only when asked
    folder = shutil.copytree(written, tmp_path / "copy")
    file = folder / "train-00001-of-00003.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    read_shards(folder)
    with pytest.raises(ValueError, match=file.name):
        read_shards(folder, strict=True)


def test_pictures_in_shards_are_never_changed(faces: Faces, tmp_path: Path) -> None:
    folder = write_shards(faces, tmp_path / "one_file", RULE)
    pixels = read_shards(folder).splits["validation"].pixels
    pixels[0] = 255  # a tensor on a mapped file may be written to
    assert not torch.equal(read_shards(folder).splits["validation"].pixels[0], pixels[0])
