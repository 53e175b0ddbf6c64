"""fer2013.csv: every pixel comes back, bad rows are named, merging touches labels only.

Rows are drawn here. Where FER2013_DATA names the real faces, those are read too.
"""

import hashlib
import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as Pillow

from lab import datasets
from lab.datasets import fer2013, hf_folder

USAGES = ("Training", "PublicTest", "PrivateTest")
SPLITS = ("train", "validation", "test")
Row = tuple[int, str, str]  # emotion, pixels, Usage


def drawn(count: int, seed: int = 0) -> list[Row]:
    """`count` rows of noise in the official order: Training, PublicTest, PrivateTest."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (count, 48 * 48))
    usages = [USAGES[3 * i // count] for i in range(count)]
    return [(i % 7, " ".join(map(str, noise[i])), usages[i]) for i in range(count)]


def write(file: Path, rows: Sequence[Row], columns: str = "emotion,pixels,Usage") -> Path:
    lines = [columns, *(f"{emotion},{pixels},{usage}" for emotion, pixels, usage in rows)]
    file.write_bytes(("\n".join(lines) + "\n").encode())
    return file


def encoded(rows: Dataset) -> list[bytes]:
    return [row["image"]["bytes"] for row in rows.cast_column("image", Image(decode=False))]


def content(splits: DatasetDict) -> dict[str, tuple[list[bytes], list[int]]]:
    return {split: (encoded(rows), rows["label"][:]) for split, rows in splits.items()}


def load(path: Path, **options: Any) -> DatasetDict:
    return fer2013.load(path, progress=False, **options)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return drawn(12)


@pytest.fixture(scope="module")
def real(fer2013_folder: Path) -> DatasetDict:
    return hf_folder.load(fer2013_folder)


# --- what comes back ---


def test_pixels_labels_and_splits_come_back(tmp_path: Path) -> None:
    # Pixels in column order, or PrivateTest among the validation faces, would look as plausible.
    ramp = " ".join(str(k // 9) for k in range(2304))
    rows = [(3, ramp, "PrivateTest"), *drawn(3)]
    splits = load(write(tmp_path / "fer2013.csv", rows))
    assert {name: len(part) for name, part in splits.items()} == dict(train=1, validation=1, test=2)
    assert splits["train"].features["label"].names == list(fer2013.CLASS_NAMES)
    assert splits["test"].features["image"] == Image()
    first = splits["test"][0]
    assert first["label"] == 3 and first["image"].mode == "L"
    np.testing.assert_array_equal(first["image"], (np.arange(2304) // 9).reshape(48, 48))
    for emotion, pixels, usage in rows[1:]:
        face = splits[dict(zip(USAGES, SPLITS, strict=True))[usage]][-1]
        assert face["label"] == emotion
        assert " ".join(map(str, np.asarray(face["image"]).ravel())) == pixels


@pytest.mark.slow
def test_real_faces_come_back(real: DatasetDict, tmp_path: Path) -> None:
    few = {split: part.select(range(300)) for split, part in real.items()}
    rows = [
        (row["label"], " ".join(map(str, row["image"].tobytes())), usage)
        for usage, part in zip(USAGES, few.values(), strict=True)
        for row in part
    ]
    splits = load(write(tmp_path / "fer2013.csv", rows))
    for split, part in few.items():
        assert splits[split]["label"][:] == part["label"][:]
        for ours, theirs in zip(splits[split]["image"], part["image"], strict=True):
            assert ours.mode == "L" and ours.tobytes() == theirs.tobytes()


def test_a_picture_has_the_same_bytes_everywhere(tmp_path: Path) -> None:
    # A fingerprint of the data is taken over these bytes; a compressor's version must not show.
    rows = [(0, " ".join(str(k % 256) for k in range(2304)), usage) for usage in USAGES]
    splits = load(write(tmp_path / "fer2013.csv", rows))
    (picture,) = {data for part in splits.values() for data in encoded(part)}
    assert hashlib.sha256(picture).hexdigest()[:16] == "37ee4f727bb84d6a"
    Pillow.open(io.BytesIO(picture)).verify()  # checks every sum in the file


def _icml(rows: list[Row]) -> bytes:
    lines = ["emotion, Usage, pixels", *(f"{e},{usage},{pixels}" for e, pixels, usage in rows)]
    return "\n".join(lines).encode() + b"\n"


FORMS = {
    "other order, spaces": _icml,
    "byte order mark": lambda rows: b"\xef\xbb\xbf" + _plain(rows),
    "CRLF": lambda rows: _plain(rows).replace(b"\n", b"\r\n"),
    "no last line end": lambda rows: _plain(rows)[:-1],
    "blank lines": lambda rows: _plain(rows).replace(b"\n", b"\n\n"),
    "quoted": lambda rows: b"\n".join(
        b",".join(b'"%s"' % cell for cell in line.split(b",")) for line in _plain(rows).splitlines()
    ),
    "one more column": lambda rows: (
        _plain(rows).replace(b"\n", b",x\n").replace(b"Usage,x", b"Usage,source")
    ),
    "semicolons": lambda rows: _plain(rows).replace(b",", b";"),
    "tabs": lambda rows: _plain(rows).replace(b",", b"\t"),
    "quoted, with semicolons": lambda rows: FORMS["quoted"](rows).replace(b",", b";"),
    "spaces around": lambda rows: _plain(rows).replace(b",", b" , "),
}


def _plain(rows: list[Row]) -> bytes:
    return "".join(
        [f"{e},{p},{u}\n" for e, p, u in [("emotion", "pixels", "Usage"), *rows]]
    ).encode()


@pytest.mark.parametrize("form", FORMS)
def test_what_spreadsheets_do_to_a_csv(form: str, rows: list[Row], tmp_path: Path) -> None:
    # A label read from the column that used to be first gives a data set of plausible nonsense.
    (tmp_path / "plain.csv").write_bytes(_plain(rows))
    (tmp_path / "form.csv").write_bytes(FORMS[form](rows))
    assert fer2013.is_fer2013(tmp_path / "form.csv")
    splits = load(tmp_path / "form.csv")
    assert content(splits) == content(load(tmp_path / "plain.csv"))
    assert splits["train"].info.description == "form.csv: 12 of 12 rows kept"


# --- what is refused, and how it is told ---

GOOD = " ".join(["7"] * 2304)
BAD = {
    f"1,{GOOD[2:]},Training": "2303 pixels instead of 2304",
    f"1,{GOOD} 7,Training": "2305 pixels instead of 2304",
    "1,,Training": "0 pixels instead of 2304",
    f"1,256 {GOOD[2:]},Training": "pixel 1 is 256, outside 0 to 255",
    f"1,7 65543 {GOOD[4:]},Training": "pixel 2 is 65543, outside 0 to 255",  # 7 in 16 bits
    f"1,{GOOD[2:]} -7,Training": "pixel 2304 is '-7', not a whole number from 0 to 255",
    f"1,7 7.5 {GOOD[4:]},Training": "pixel 2 is '7.5', not a whole number from 0 to 255",
    f"1,7 7 x {GOOD[4:]},Training": "pixel 3 is 'x', not a whole number from 0 to 255",
    f"7,{GOOD},Training": "emotion '7' is none of 0 to 6",
    f"happy,{GOOD},Training": "emotion 'happy' is none of 0 to 6",
    f"1,{GOOD},Trainin": "Usage 'Trainin' is none of Training, PublicTest, PrivateTest",
    f"1,{GOOD}": "2 columns instead of 3",
    f'1,"{GOOD},Training': "2 columns instead of 3",
    "<html>": "1 column instead of 3",
}


@pytest.mark.parametrize("line", BAD, ids=list(BAD.values()))
def test_a_bad_row_is_named_and_the_others_stay(line: str, rows: list[Row], tmp_path: Path) -> None:
    # One broken line must neither end the reading nor become a face of zeros.
    lines = _plain(rows).decode().splitlines()
    file = tmp_path / "fer2013.csv"
    file.write_text("\n".join([*lines[:2], line, *lines[2:]]) + "\n")
    splits = load(file)
    told = f"fer2013.csv: 12 of 13 rows kept, 1 left out\nline 3: {BAD[line]}"
    assert {part.info.description for part in splits.values()} == {told}
    assert content(splits) == content(load(write(tmp_path / "good.csv", rows)))
    with pytest.raises(ValueError, match=r"^fer2013\.csv, line 3: ") as error:
        load(file, strict=True)
    assert BAD[line] in str(error.value)


def test_a_face_keeps_its_row_number(rows: list[Row], tmp_path: Path) -> None:
    # Other files (FER+) name faces by their row. Counted over the faces that are left, every
    # number behind a bad row would be another face's; counted per split, so would all of test.
    broken, order = [*rows], [7, 0, 11, 1, 6, 2, 10, 3, 5, 4, 9, 8]  # Usages need not be sorted
    broken[1] = (1, GOOD[2:], "Training")
    broken[6] = (9, GOOD, "PublicTest")
    file = tmp_path / "fer2013.csv"
    file.write_bytes(_plain([broken[k] for k in order]).replace(b"\n", b"\n\n"))  # blank: no row
    splits = load(file)
    assert splits["train"].features["row"] == Value("int32")
    numbers = {split: part["row"][:] for split, part in splits.items()}
    assert numbers == {"train": [1, 5, 7], "validation": [0, 8, 9], "test": [2, 6, 10, 11]}
    assert fer2013.merge(splits)["test"]["row"][:] == [2, 6, 10, 11]


def test_a_report_stays_short(rows: list[Row], tmp_path: Path) -> None:
    bad = [(8, GOOD, "Training")] * 1_023
    text = load(write(tmp_path / "fer2013.csv", rows + bad))["test"].info.description.splitlines()
    assert text[0] == "fer2013.csv: 12 of 1,035 rows kept, 1,023 left out"
    assert text[1].startswith("line 14: ") and len(text) == 22
    assert text[-1] == "… and 1,003 more"


def test_a_download_that_broke_off(rows: list[Row], tmp_path: Path) -> None:
    file = tmp_path / "fer2013.csv"
    file.write_bytes(_plain(rows)[:-300])
    splits = load(file)
    assert "line 13: 2 columns instead of 3" in splits["train"].info.description
    assert len(splits["test"]) == 3


def test_a_split_without_a_row_is_an_error(rows: list[Row], tmp_path: Path) -> None:
    # Half a download ends before PrivateTest: an empty test set would be noticed at the very end.
    file = write(tmp_path / "fer2013.csv", [*rows[:8], (9, GOOD, "PrivateTest")])
    with pytest.raises(ValueError, match=r"test \(Usage PrivateTest\)") as error:
        load(file)
    assert "line 10: emotion '9'" in str(error.value)


@pytest.mark.parametrize("missing", ["emotion", "pixels", "Usage"])
def test_a_missing_column_is_named(missing: str, rows: list[Row], tmp_path: Path) -> None:
    columns = "emotion,pixels,Usage".replace(missing, "else")
    file = write(tmp_path / "train.csv", rows, columns)
    with pytest.raises(ValueError, match=f"train.csv has no column {missing}; found .*'else'"):
        load(file)
    assert fer2013.is_fer2013(file) == (missing == "Usage")  # so that load can say so


def test_kaggles_train_and_test_want_what_tells_the_splits(rows: list[Row], tmp_path: Path) -> None:
    # train.csv has no Usage and test.csv no emotions: "in no known form" would help nobody.
    (tmp_path / "train.csv").write_text("emotion,pixels\n" + f"3,{rows[0][1]}\n")
    (tmp_path / "test.csv").write_text(f"pixels\n{rows[1][1]}\n")
    for path in (tmp_path, tmp_path / "train.csv"):
        with pytest.raises(ValueError, match="train.csv has no column Usage.*give fer2013.csv"):
            datasets.load(path)


def test_where_the_file_may_lie(rows: list[Row], tmp_path: Path) -> None:
    for name in ("fer2013.csv", "fer2013/fer2013.csv", "icml_face_data.csv"):
        folder = tmp_path / name.replace("/", "_").replace(".", "_")
        (folder / name).parent.mkdir(parents=True)
        assert not fer2013.is_fer2013(folder)
        with pytest.raises(FileNotFoundError, match="fer2013.csv"):
            load(folder)
        write(folder / name, rows)
        assert fer2013.is_fer2013(folder) and fer2013.is_fer2013(folder / name)
        assert len(load(folder)["train"]) == 4


def test_other_files_are_left_to_others(tmp_path: Path) -> None:
    others = {
        "legend.csv": b"user.id,image,emotion\n628,a.jpg,anger\n",
        "fer2013new.csv": b"Usage,Image name,neutral\n",
        "face.png": b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR"emotion\0',
        "empty.csv": b"",
        "zeros.bin": bytes(100_000),
    }
    for name, data in others.items():
        (tmp_path / name).write_bytes(data)
        assert not fer2013.is_fer2013(tmp_path / name), name
    assert not fer2013.is_fer2013(tmp_path / "nothing.csv")


# --- good manners ---


def test_an_interrupted_reading_leaves_nothing(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, empty = write(tmp_path / "fer2013.csv", rows), tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setattr(tempfile, "tempdir", str(empty))
    cache = {*Path(os.environ["HF_HOME"]).rglob("*")}
    opened, faces = [], iter(range(5))
    keep = Path.open

    def note(self: Path, *args: Any, **options: Any) -> Any:
        opened.append(keep(self, *args, **options))
        return opened[-1]

    def stop(pixels: np.ndarray) -> bytes:
        if next(faces) == 4:
            raise KeyboardInterrupt
        return b"face"

    monkeypatch.setattr(Path, "open", note)
    monkeypatch.setattr(fer2013, "_png", stop)
    with pytest.raises(KeyboardInterrupt):
        load(file)
    assert opened and all(stream.closed for stream in opened)
    assert not list(empty.iterdir()) and {*Path(os.environ["HF_HOME"]).rglob("*")} == cache


def test_the_bar_can_be_silenced(
    rows: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "fer2013.csv", rows)
    fer2013.load(file, progress=False)
    assert capsys.readouterr() == ("", "")
    fer2013.load(file)
    shown = capsys.readouterr()
    assert shown.out == "" and "fer2013.csv" in shown.err


# --- merging classes ---


def labelled(names: Sequence[str], labels: Sequence[int], **columns: Any) -> Dataset:
    pictures = [{"bytes": f"picture {i}".encode(), "path": None} for i in range(len(labels))]
    features = Features(image=Image(), label=ClassLabel(names=list(names)))
    features |= {name: Value("string") for name in columns}
    return Dataset.from_dict(
        {"image": pictures, "label": list(labels), **columns}, features=Features(features)
    )


def test_seven_classes_become_four(rows: list[Row], tmp_path: Path) -> None:
    splits = load(write(tmp_path / "fer2013.csv", [*rows, (9, GOOD, "Training")]))
    merged = fer2013.merge(splits)
    told = dict(angry="angry", disgust="angry", fear="sad", happy="happy", sad="sad",
                surprise="neutral", neutral="neutral")  # fmt: skip
    for split, part in merged.items():
        kind, before = part.features["label"], splits[split].features["label"]
        assert kind.names == ["angry", "happy", "neutral", "sad"]
        assert [kind.int2str(k) for k in part["label"]] == [
            told[before.int2str(k)] for k in splits[split]["label"]
        ]
        assert encoded(part) == encoded(splits[split])
        assert part.info.description == splits[split].info.description
    assert splits["train"].features["label"].names == list(fer2013.CLASS_NAMES)


def test_merging_any_other_data() -> None:
    # Folders name classes with capitals, in an order of their own, and may know three of seven.
    train = labelled(["Happy", "SAD", "fear"], [0, 1, 2, 0], person=list("abcd"))
    test = labelled(["fear", "Happy", "SAD"], [0, 1], person=list("ef"))
    merged = fer2013.merge(DatasetDict(train=train, test=test))
    assert merged["train"].features["label"].names == ["happy", "sad"]
    assert merged["train"]["label"][:] == [0, 1, 1, 0] and merged["test"]["label"][:] == [1, 0]
    assert merged["train"].column_names == ["image", "label", "person"]
    assert merged["train"]["person"][:] == list("abcd")


def test_merging_follows_a_selection() -> None:
    # The stored table still holds all rows in the old order; labels must follow the view.
    part = labelled(["happy", "fear"], [0, 1, 1, 0]).select([3, 1])
    merged = fer2013.merge(DatasetDict(train=part))["train"]
    assert merged["label"][:] == [0, 1]
    assert encoded(merged) == [b"picture 3", b"picture 1"]


def test_a_class_that_nobody_mapped_is_named() -> None:
    splits = DatasetDict(train=labelled(["happy", "Contempt"], [0, 1]))
    with pytest.raises(ValueError, match="no Contempt"):
        fer2013.merge(splits)
    more = fer2013.merge(splits, {**fer2013.FOUR, "CONTEMPT": "angry"})["train"]
    assert more["label"][:] == [1, 0]


def test_merging_needs_labels_with_names() -> None:
    numbers = Dataset.from_dict({"label": [0, 1]})
    with pytest.raises(ValueError, match="train: no column label with named classes"):
        fer2013.merge(DatasetDict(train=numbers))
    outside = labelled(["happy"], [-1])  # how the hub marks a test set without labels
    with pytest.raises(ValueError, match="train: a label is none of 0 to 0"):
        fer2013.merge(DatasetDict(train=outside))
