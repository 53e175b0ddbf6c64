"""Image folders: splits that keep class shares, and nothing left out in silence.

Pictures are noise, drawn on the spot. Where FER2013_DATA names the real set, some of it is written
into both forms of folders and read back.
"""

import io
import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import DatasetDict, Image
from PIL import Image as Pil

from expression.preprocessing import Preprocess
from hf_collate import decode
from lab import datasets
from lab.datasets import folder, hf_folder


def noise(key: int | str, suffix: str = ".png") -> bytes:
    """The bytes of a 16 x 16 gray picture of its own, the same on every machine."""
    rng = np.random.default_rng(list(str(key).encode()))
    file = io.BytesIO()
    Pil.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(
        file, Pil.registered_extensions()[suffix]
    )
    return file.getvalue()


def fill(root: Path, counts: dict[str, int], suffix: str = ".png") -> Path:
    """`counts` = {"train/happy": 3}: so many different pictures in that folder."""
    for where, count in counts.items():
        (root / where).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            (root / where / f"{k:04}{suffix}").write_bytes(noise(f"{where}/{k}", suffix))
    return root


def load(root: Path, **kwargs: object) -> DatasetDict:
    return folder.load(root, progress=False, **kwargs)


def files(splits: DatasetDict, root: Path) -> dict[str, list[str]]:
    """{split: paths below `root`}."""
    bare = {s: rows.cast_column("image", Image(decode=False)) for s, rows in splits.items()}
    return {
        s: [Path(row["image"]["path"]).relative_to(root.resolve()).as_posix() for row in rows]
        for s, rows in bare.items()
    }


def counts(splits: DatasetDict) -> dict[str, dict[str, int]]:
    return {
        s: dict(Counter(rows.features["label"].int2str(rows["label"][:])))
        for s, rows in splits.items()
    }


def report(splits: DatasetDict) -> list[str]:
    texts = {rows.info.description for rows in splits.values()}
    assert len(texts) == 1, "every split carries the same report"
    return texts.pop().split("\n")


# --- splits drawn here ---


def test_every_class_gives_the_same_share(tmp_path: Path) -> None:
    # A split by chance alone can leave a rare class out of the test altogether.
    fill(tmp_path, {"happy": 40, "Neutral": 20, "sad": 12, "fear": 7})
    splits = load(tmp_path)
    assert splits["train"].features["label"].names == ["fear", "happy", "neutral", "sad"]
    assert counts(splits) == {
        "train": {"fear": 4, "happy": 27, "neutral": 13, "sad": 8},
        "validation": {"fear": 1, "happy": 3, "neutral": 2, "sad": 1},
        "test": {"fear": 2, "happy": 10, "neutral": 5, "sad": 3},
    }
    assert sum(map(len, files(splits, tmp_path).values())) == 79
    assert len(set().union(*files(splits, tmp_path).values())) == 79
    assert report(splits)[0] == "images: 79 of 79 pictures kept, 0 left out"
    half = load(tmp_path, test_size=0.5, validation_size=0.5)
    assert counts(half)["test"] == {"fear": 4, "happy": 20, "neutral": 10, "sad": 6}
    assert counts(half)["validation"] == {"fear": 2, "happy": 10, "neutral": 5, "sad": 3}


def test_the_label_is_the_folder_the_picture_lies_in(tmp_path: Path) -> None:
    fill(tmp_path, {"happy": 9, "fear": 9})
    splits = load(tmp_path)
    for split, names in files(splits, tmp_path).items():
        labels = splits[split].features["label"].int2str(splits[split]["label"][:])
        assert [name.split("/")[0] for name in names] == labels


def test_the_same_seed_draws_the_same_split_elsewhere(tmp_path: Path) -> None:
    # Splits that hang on the order of a directory listing differ from machine to machine.
    one, two = tmp_path / "one", tmp_path / "deeper" / "two"
    fill(one, {"happy": 30, "sad": 20})
    for file in sorted(one.rglob("*.png"), reverse=True):
        (two / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, two / file.parent.name)
    assert files(load(two), two) == files(load(one), one)
    assert datasets.fingerprint(load(two)) == datasets.fingerprint(load(one))
    other = load(one, seed=1)
    assert files(other, one)["test"] != files(load(one), one)["test"]
    assert counts(other) == counts(load(one))
    # Written down: a new library or Python must not move a picture into the test set.
    drawn = [name for name in files(load(one), one)["test"] if name.startswith("happy")]
    assert [int(Path(name).stem) for name in drawn] == [2, 4, 6, 9, 11, 13, 15, 28]


def test_a_class_too_small_to_divide_stays_in_train(tmp_path: Path) -> None:
    # scikit-learn's stratified split raises here, and 49,777 good pictures are not read.
    fill(tmp_path, {"happy": 8, "fear": 2, "sad": 3})
    splits = load(tmp_path)
    assert counts(splits)["train"] == {"fear": 2, "happy": 5, "sad": 1}
    assert counts(splits)["test"] == {"happy": 2, "sad": 1}
    greedy = counts(load(tmp_path, test_size=0.9, validation_size=0.9))
    assert greedy["train"] == {"fear": 2, "happy": 1, "sad": 1}, "something is left to learn from"
    assert greedy["test"] == {"happy": 6, "sad": 1}
    line = "class fear has 2 pictures, kept in train: it takes 3 to be in all splits"
    assert report(splits)[2:] == [line]
    with pytest.raises(ValueError, match=line):
        load(tmp_path, strict=True)
    shutil.rmtree(tmp_path / "happy")
    shutil.rmtree(tmp_path / "sad")
    with pytest.raises(ValueError, match=r"left for test: class fear has 2 .*; add pictures$"):
        load(tmp_path)
    fill(tmp_path, {"test/fear": 1, "train/fear": 1, "train/happy": 8})
    shutil.rmtree(tmp_path / "fear")
    line = "class fear has 1 picture, kept in train: it takes 2 to be in train and validation"
    assert line in report(load(tmp_path))


def test_copies_of_a_picture_do_not_land_on_both_sides(tmp_path: Path) -> None:
    # A copy of a training picture in the test set is a free point.
    fill(tmp_path, {"happy": 10, "sad": 10})
    for k in range(3):
        shutil.copy(tmp_path / "happy" / "0000.png", tmp_path / "happy" / f"copy{k}.png")
    shutil.copy(tmp_path / "sad" / "0001.png", tmp_path / "happy" / "unsure.png")
    splits = load(tmp_path)
    every = set().union(*files(splits, tmp_path).values())
    assert len(every) == 19 and "happy/0000.png" in every
    assert not every & {"happy/copy0.png", "happy/unsure.png", "sad/0001.png"}
    assert report(splits)[0] == "images: 19 of 24 pictures kept, 5 left out"
    assert report(splits)[2:] == [
        "2 × same picture in different classes, left out, such as happy/unsure.png = sad/0001.png",
        "3 × copy of a picture within its class, left out, such as happy/0000.png = "
        "happy/copy0.png",
    ]


# --- splits that folders name ---


def test_split_folders_are_left_as_they_are(tmp_path: Path) -> None:
    # Kaggle writes "train", others "Training" and "valid"; Windows users write "Happy".
    fill(tmp_path, {"Train/Happy": 6, "Train/sad": 5, "valid/happy": 2, "valid/SAD": 2})
    fill(tmp_path, {"TEST/happy": 3, "TEST/sad": 1})
    splits = load(tmp_path)
    assert list(splits) == ["train", "validation", "test"]
    assert counts(splits) == {
        "train": {"happy": 6, "sad": 5},
        "validation": {"happy": 2, "sad": 2},
        "test": {"happy": 3, "sad": 1},
    }
    assert report(splits) == ["images: 19 of 19 pictures kept, 0 left out", "splits: as found"]
    assert load(tmp_path, strict=True)["test"]["label"][:] == splits["test"]["label"][:]


def test_rows_stand_in_the_order_of_their_names(tmp_path: Path) -> None:
    # Not of their folders' names, "happy" before "happy-2": one rule for drawn and found splits.
    fill(tmp_path, {f"{s}/{c}": 2 for s in ("train", "val", "test") for c in ("happy", "happy-2")})
    for names in files(load(tmp_path), tmp_path).values():
        assert names == sorted(names) and "-2/" in names[0]


def test_validation_comes_from_train_and_never_from_test(tmp_path: Path) -> None:
    # Kaggle's FER2013 has no validation folder; choosing on test makes its figure worthless.
    fill(tmp_path, {"train/happy": 30, "train/sad": 20, "test/happy": 6, "test/sad": 4})
    splits = load(tmp_path)
    assert counts(splits)["validation"] == {"happy": 3, "sad": 2}
    assert counts(splits)["train"] == {"happy": 27, "sad": 18}
    found = files(splits, tmp_path)
    assert all(name.startswith("train/") for name in found["train"] + found["validation"])
    assert len(found["test"]) == 10 and all(name.startswith("test/") for name in found["test"])
    assert files(load(tmp_path, test_size=0.9), tmp_path) == found
    shutil.copy(tmp_path / found["validation"][0], tmp_path / "train/happy/zzzz.png")
    assert files(load(tmp_path), tmp_path) == found, "a copy would have gone to the other side"
    assert "1 × copy of a picture within its class, left out" in report(load(tmp_path))[2]


def test_train_alone_gives_all_three(tmp_path: Path) -> None:
    fill(tmp_path, {"train/happy": 12, "train/sad": 12})
    assert counts(load(tmp_path))["test"] == {"happy": 3, "sad": 3}


@pytest.mark.parametrize(
    "there, words",
    [
        (("train", "val"), "pictures in train, validation, but none in test.*rename it test"),
        (("validation", "test"), "pictures in test, validation, but none in train: put"),
        (("test",), "pictures in test, but none in train"),
    ],
)
def test_a_missing_split_is_named(there: tuple[str, ...], words: str, tmp_path: Path) -> None:
    # To take half of validation as test, in silence, would call a choosing set an honest one.
    fill(tmp_path, {f"{split}/{label}": 3 for split in there for label in ("happy", "sad")})
    assert folder.is_folder(tmp_path), "or the explanation would never be read"
    with pytest.raises(ValueError, match=words):
        load(tmp_path)


def test_a_class_that_train_lacks_is_left_out(tmp_path: Path) -> None:
    # Counted against a model, such pictures only measure that it was never shown their class.
    three = {"train": 9, "validation": 3, "test": 3}
    fill(tmp_path, {f"{s}/{label}": n for s, n in three.items() for label in ("happy", "sad")})
    fill(tmp_path, {"test/contempt": 2, "train/fear": 4, "test/fear": 1, "validation/awe": 0})
    splits = load(tmp_path)
    assert splits["test"].features["label"].names == ["fear", "happy", "sad"]
    assert counts(splits)["test"] == {"fear": 1, "happy": 3, "sad": 3}
    assert report(splits) == [
        "images: 35 of 37 pictures kept, 2 left out",
        "splits: as found",
        "validation/awe: a class folder without a picture that opens",
        "class contempt: 2 × picture of test left out, for train has none and nothing can be "
        "learnt about it",
        "class fear: in train, but not in validation; kept",
    ]


def test_the_same_picture_in_train_and_test_is_counted(tmp_path: Path) -> None:
    # FER2013's own test repeats some 550 training pictures; its figure is quoted all the same.
    three = {"train": 9, "val": 3, "test": 3}
    fill(tmp_path, {f"{s}/{label}": n for s, n in three.items() for label in ("happy", "sad")})
    shutil.copy(tmp_path / "train/sad/0001.png", tmp_path / "test/happy/leak.png")
    shutil.copy(tmp_path / "val/sad/0001.png", tmp_path / "test/sad/leak.png")
    shutil.copy(tmp_path / "train/sad/0002.png", tmp_path / "train/sad/again.png")
    splits = load(tmp_path)
    assert [len(rows) for rows in splits.values()] == [19, 6, 8], "the user's splits are kept"
    assert report(splits)[2:] == [
        "2 × picture of test that is byte for byte in train or validation too, kept, but it "
        "flatters every figure"
    ]
    with pytest.raises(ValueError, match="2 × picture of test that is byte for byte"):
        load(tmp_path, strict=True)


# --- what is left out ---


def broken() -> dict[str, tuple[bytes, str]]:
    """{file name: (content, words of the report)}."""
    jpeg = noise("jpeg", ".jpg")
    return {
        "cut.jpg": (jpeg[:-60], "does not open (image file is truncated"),
        "half.jpg": (jpeg[: len(jpeg) // 2], "does not open ("),
        "cut.png": (noise("cut")[:-40], "does not open ("),
        "empty.png": (b"", "does not open (no known picture format)"),
        "page.jpeg": (b"<html>404</html>", "does not open (no known picture format)"),
        "notes.txt": (b"thanks", "no picture (.txt)"),
        "README": (b"thanks", "no picture (no suffix)"),
    }


@pytest.mark.parametrize("name", broken())
def test_a_file_that_is_no_picture_is_named(name: str, tmp_path: Path) -> None:
    # Image.open reads the header alone: half a JPEG passes it, and training stops hours later.
    fill(tmp_path, {"happy": 8, "sad": 8})
    content, words = broken()[name]
    (tmp_path / "sad" / name).write_bytes(content)
    splits = load(tmp_path)
    assert f"sad/{name}" not in set().union(*files(splits, tmp_path).values())
    (line,) = report(splits)[2:]
    assert line.startswith(f"sad/{name}: {words}") and line.endswith("; left out")
    with pytest.raises(ValueError, match=re.escape(line)):
        load(tmp_path, strict=True)


def test_what_is_no_file_is_named_and_not_waited_for(tmp_path: Path, special_files: Any) -> None:
    # Reading a pipe waits for ever; reading /dev/zero fills the memory.
    fill(tmp_path, {"happy": 8, "sad": 8})
    special = special_files(tmp_path / "sad", ".png")
    with (tmp_path / "sad/huge.png").open("wb") as file:
        file.truncate(10**13)  # no picture has ten terabytes, and no memory
    splits = load(tmp_path)
    assert sum(map(len, splits.values())) == 16
    lines = report(splits)[2:]
    assert len(lines) == 6
    for line, (name, kind) in zip(
        lines, sorted(special.items() | {("huge.png", " MB")}), strict=True
    ):
        assert line.startswith(f"sad/{name}: does not open") and kind in line
    for name in special:  # the class itself is no folder
        (tmp_path / "sad" / name).rename(tmp_path / name.removesuffix(".png"))
    assert sum(map(len, load(tmp_path).values())) == 16


def test_pictures_in_unexpected_places_are_named(tmp_path: Path) -> None:
    fill(tmp_path, {"train/happy": 8, "train/sad": 8, "train/sad/more": 2, "extra/happy": 2})
    (tmp_path / "train" / "loose.png").write_bytes(noise(0))
    (tmp_path / "labels.csv").touch()
    (tmp_path / "train" / "sad" / "folder.jpg").mkdir()
    assert report(load(tmp_path))[2:] == [
        "extra: lies beside the split folders; left out",
        "labels.csv: lies beside the split folders; left out",
        "train/loose.png: in no class folder; left out",
        "train/sad/more: a folder inside a class folder; left out",
        "train/sad/folder.jpg: does not open (Is a directory); left out",
    ]


def test_what_computers_leave_behind_is_no_problem(tmp_path: Path) -> None:
    # A set zipped on a Mac has as many ._0001.png as pictures; a report of those hides the rest.
    fill(tmp_path, {"happy": 8, "sad": 8, "__MACOSX/happy": 2, ".git/sad": 1})
    for name in (".DS_Store", "happy/._0001.png", "happy/Thumbs.db", "sad/.DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    splits = load(tmp_path, strict=True)
    assert splits["train"].features["label"].names == ["happy", "sad"]
    assert report(splits)[0] == "images: 16 of 16 pictures kept, 0 left out"


def test_a_long_report_is_cut_and_says_so(tmp_path: Path) -> None:
    fill(tmp_path, {"happy": 8, "sad": 8, "fear": 0})
    for k in range(25):
        (tmp_path / "sad" / f"bad{k:02}.webp").write_bytes(b"x")
    lines = report(load(tmp_path))
    assert lines[0] == "images: 16 of 41 pictures kept, 25 left out"
    assert lines[2] == "fear: a class folder without a picture that opens"
    assert lines[3].startswith("sad/bad00.webp") and lines[22].startswith("sad/bad19.webp")
    assert lines[23:] == ["… and 5 more"]


def test_every_usual_kind_of_picture_opens(tmp_path: Path) -> None:
    fill(tmp_path, {"happy": 4})
    kinds = ".png .jpg .jpeg .jfif .jpe .bmp .webp .gif .tif .tiff .avif .jp2 .ppm .pgm".split()
    for suffix in kinds:
        fill(tmp_path, {f"sad{suffix}": 4}, suffix)
        for file in (tmp_path / f"sad{suffix}").iterdir():
            file.rename(file.with_suffix(suffix.upper()))
    splits = load(tmp_path, strict=True)
    whole = 4 * (1 + len(kinds))
    assert report(splits)[0] == f"images: {whole} of {whole} pictures kept, 0 left out"
    assert {image.size for image in splits["train"]["image"]} == {(16, 16)}


def test_pictures_of_12_bits_and_floats_are_not_trained_on_as_black(tmp_path: Path) -> None:
    # The same rule as in serving, also where pillow drops the lower half of 16-bit colours
    import tifffile  # comes with scikit-image

    fill(tmp_path, {"happy": 4})
    (tmp_path / "sad").mkdir()
    gray = np.linspace(0, 240, 16 * 16).reshape(16, 16)
    for k in range(2):
        deep = ((gray + k) * 16).astype(np.uint16)
        Pil.fromarray(deep).save(tmp_path / "sad" / f"gray{k}.png")
        tifffile.imwrite(tmp_path / "sad" / f"colour{k}.tif", np.dstack([deep] * 3))
        Pil.fromarray(((gray + k) / 255).astype(np.float32)).save(tmp_path / "sad" / f"f{k}.tiff")
    rule = Preprocess(16, "L")
    splits = load(tmp_path, strict=True)
    seen = [
        rule.pixels(row["image"]) for rows in splits.values() for row in rows if row["label"] == 1
    ]
    assert len(seen) == 6
    for pixels in seen:
        assert np.abs(pixels[0].astype(int) - gray).max() <= 2


def test_nothing_to_read_is_an_error_that_lists_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere; expected train/<class>/"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="found nothing; want train/<class>/"):
        load(tmp_path)
    (tmp_path / "happy").mkdir()
    (tmp_path / "faces.csv").touch()
    with pytest.raises(ValueError, match="found faces.csv, happy; want"):
        load(tmp_path)
    (tmp_path / "happy" / "a.png").write_bytes(b"x")
    with pytest.raises(ValueError, match="for train: happy: a class.*happy/a.png: does.*; add"):
        load(tmp_path)  # one sentence: it ended in "because;" and a list
    for wrong in (dict(test_size=0), dict(validation_size=1.0)):
        with pytest.raises(ValueError, match=r"not in \(0, 1\)"):
            load(tmp_path, **wrong)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_that_is_no_utf8_stops_nothing(tmp_path: Path) -> None:
    # Arrow holds UTF-8 only: one such name used to sink the whole table.
    fill(tmp_path, {"happy": 8, "sad": 8})
    try:
        Path(os.fsdecode(os.fsencode(tmp_path / "sad") + b"/caf\xe9.png")).write_bytes(noise(0))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    splits = load(tmp_path, strict=True)
    assert report(splits)[0] == "images: 17 of 17 pictures kept, 0 left out"
    stored = [
        row["image"]["path"]
        for rows in splits.values()
        for row in rows.cast_column("image", Image(decode=False))
    ]
    assert stored.count(None) == 1, "its content is held instead of its name"
    assert {image.size for rows in splits.values() for image in rows["image"]} == {(16, 16)}


# --- recognising the form ---


@pytest.mark.parametrize(
    "known, there",
    [
        (True, ["happy/a.png", "sad/b.JPG"]),
        (True, ["train/happy/a.png", "train/sad/b.png", "test/happy/c.png"]),
        (True, ["Training/happy/a.png", "LICENSE"]),
        (False, ["data/train-00000-of-00001.parquet", "happy/a.png", "sad/b.png"]),
        (False, ["train.parquet", "train/happy/a.png"]),
        (False, ["dataset_dict.json", "train/data.arrow", "a/a.png", "b/b.png"]),
        (False, ["images/a.jpg", "data/legend.csv", "docs/figure.png"]),
        (False, ["facial_expressions-master/images/a.jpg", "facial_expressions-master/x/b.jpg"]),
        (False, ["a.png", "b.png"]),
        (False, ["a.png", "thumbs/b.png"]),
        (False, ["train/a.png", "test/b.png"]),
        (False, ["happy/._a.png", "sad/.b.png", "fer2013.csv"]),
        (False, []),
    ],
)
def test_only_class_folders_are_recognised(known: bool, there: list[str], tmp_path: Path) -> None:
    # A form that says yes too early reads another form's data as two classes, "data" and "images".
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert folder.is_folder(tmp_path) is known
    assert folder.is_folder(str(tmp_path)) is known
    assert not folder.is_folder(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "places",
    [
        ["happy/s1", "sad/s1", "happy/s2"],
        ["s1/happy", "s1/sad", "s2/happy", "s2/sad"],
        ["train/s1/happy", "train/s1/sad", "test/s2/happy", "test/s2/sad"],
        ["train/happy/s1", "train/sad/s1", "test/happy/s2", "test/sad/s2"],
    ],
)
def test_pictures_sorted_by_subject_are_refused_with_an_example(
    places: list[str], tmp_path: Path
) -> None:
    # Read as they stand, subjects would be the classes; "no known form" alone tells nothing.
    fill(tmp_path, dict.fromkeys(places, 2))
    with pytest.raises(ValueError, match=f"{min(places)}/0000.png lie in no class folder"):
        datasets.load(tmp_path)


@pytest.mark.parametrize(
    "files, said",
    [
        (["happy/a.png", "happy/b.png"], "one class folder, happy, and two"),
        (["happy/a.png", "sad/notes.txt"], "one class folder, happy, and two"),
        (["happy/notes.txt", "sad/notes.txt"], "found .'happy', 'sad'.; its folders hold no pic"),
        (["train/happy/notes.txt", "test/happy/notes.txt"], "its folders hold no picture"),
        (["a.png", "thumbs/b.png"], "a.png lie in no class folder"),
        (["notes.txt"], "found .'notes.txt'.; can read"),
    ],
)
def test_what_is_missing_from_class_folders_is_said(
    files: list[str], said: str, tmp_path: Path
) -> None:
    # "happy/a.png lies in no class folder; move it" of a folder that is in its place
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=said):
        datasets.load(tmp_path)


def test_image_folders_one_folder_deeper_are_pointed_to(tmp_path: Path) -> None:
    fill(tmp_path, {f"archive/{s}/{k}": 2 for s in ("train", "test") for k in ("happy", "sad")})
    with pytest.raises(ValueError, match=f"give {tmp_path / 'archive'}"):
        datasets.load(tmp_path)


# --- further down ---


def test_paths_go_all_the_way_to_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Relative paths would break as soon as a notebook changes its folder.
    fill(tmp_path / "set", {"happy": 8, "sad": 8})
    monkeypatch.chdir(tmp_path)
    splits = datasets.normalise(folder.load("set", progress=False))
    monkeypatch.chdir(tmp_path / "set" / "sad")
    decoded = decode(splits["train"], Preprocess(16, "L"), tmp_path / "cache")
    name = files(splits, tmp_path)["train"][0]
    with Pil.open(tmp_path / name) as image:
        assert np.array_equal(decoded.pixels[0, 0].numpy(), np.asarray(image))
    row = splits["train"].cast_column("image", Image(decode=False))[0]["image"]
    assert row["bytes"] is None, "50,000 pictures do not belong into memory"
    assert len(datasets.fingerprint(splits)) == 16


# --- the real set ---


@pytest.fixture(scope="module")
def real(fer2013_folder: Path) -> DatasetDict:
    splits = hf_folder.load(fer2013_folder)
    return DatasetDict({s: splits[s].select(range(300)) for s in ("train", "test")})


def write(rows: object, root: Path) -> Counter:
    """Kaggle's form: `root`/<class>/<number>.jpg; the count of each class."""
    names = rows.features["label"].names
    for k, row in enumerate(rows):
        (root / names[row["label"]]).mkdir(parents=True, exist_ok=True)
        row["image"].save(root / names[row["label"]] / f"{k:05}.jpg", quality=95)
    return Counter(names[label] for label in rows["label"])


def test_real_faces_with_splits(real: DatasetDict, tmp_path: Path) -> None:
    written = {split: write(real[split], tmp_path / split) for split in real}
    splits = load(tmp_path)
    assert counts(splits)["test"] == dict(written["test"])
    both = Counter(counts(splits)["train"]) + Counter(counts(splits)["validation"])
    assert both.total() > 290 and both <= written["train"], "all but copies"
    for label, n in both.items():
        drawn = counts(splits)["validation"].get(label, 0)
        assert drawn == (max(1, round(0.1 * n)) if n > 1 else 0)


def test_real_faces_without_splits(real: DatasetDict, tmp_path: Path) -> None:
    written = write(real["train"], tmp_path)
    splits = load(tmp_path, seed=3)
    for label, n in written.items():
        if n > 20:  # shares kept, give or take a rounding and a dropped copy
            assert abs(counts(splits)["test"][label] - n / 4) <= 1.5
            assert abs(counts(splits)["validation"][label] - n * 0.075) <= 1.5
