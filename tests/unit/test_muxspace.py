"""The Muxspace clone: every kind of its mess is counted, and no person is in two splits.

Clones are written on the spot from noise. Where the real one lies beside the data that
EXPRESSION_DATA or FER2013_DATA names, it is read too.
"""

import csv
import io
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import DatasetDict, Image
from PIL import Image as Pil

from lab import datasets
from lab.datasets import folder, muxspace

WORDS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
NAMES = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
Row = tuple[str, str]  # file name, the legend's word


def noise(key: str) -> bytes:
    """The bytes of a 16 x 16 gray PNG of its own, the same on every machine."""
    rng = np.random.default_rng(list(key.encode()))
    file = io.BytesIO()
    Pil.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def clean(people: int = 6) -> list[Row]:
    """One picture of every class by every person."""
    return [(f"P{'abcdefghijklmnopqrst'[p]}_{k:04}.jpg", word)
            for p in range(people) for k, word in enumerate(WORDS)]  # fmt: skip


def clone(root: Path, rows: list[Row], head: str = "user.id,image,emotion\n") -> Path:
    """A clone with these rows, and a picture for each name in them."""
    (root / "images").mkdir(parents=True)
    (root / "data").mkdir()
    for name in {name for name, _ in rows}:
        (root / "images" / name).write_bytes(noise(name))
    text = head + "".join(f"7,{name},{word}\n" for name, word in rows)
    (root / "data" / "legend.csv").write_text(text, encoding="utf-8", newline="")
    return root


def load(root: Path, **kwargs: object) -> DatasetDict:
    return muxspace.load(root, progress=False, **kwargs)


def faces(splits: DatasetDict) -> dict[str, dict[str, str]]:
    """{split: {file name: class}}."""
    found = {}
    for split, rows in splits.items():
        values = rows.cast_column("image", Image(decode=False))["image"][:]
        labels = rows.features["label"].int2str(rows["label"][:])
        found[split] = dict(zip([Path(v["path"]).name for v in values], labels, strict=True))
    return found


def counts(splits: DatasetDict) -> dict[str, list[int]]:
    return {s: np.bincount(rows["label"][:], minlength=7).tolist() for s, rows in splits.items()}


def report(splits: DatasetDict) -> list[str]:
    texts = {rows.info.description for rows in splits.values()}
    assert len(texts) == 1, "every split carries the same report"
    return texts.pop().split("\n")


# --- the mess, one kind at a time ---


def test_a_clean_clone_has_nothing_to_report(tmp_path: Path) -> None:
    splits = load(clone(tmp_path / "c", clean()), strict=True)
    assert list(splits) == ["train", "validation", "test"]
    assert splits["test"].features["label"].names == NAMES == list(muxspace.CLASS_NAMES)
    assert report(splits) == [
        "rows: 42 of 42 in data/legend.csv kept, 0 left out",
        "splits: drawn by person, 6 people by file name, seed 0",
    ]
    every = {name: label for part in faces(splits).values() for name, label in part.items()}
    assert every == {name: NAMES[WORDS.index(word)] for name, word in clean()}


MESS: dict[str, tuple[list[Row], int, str]] = {  # rows added, rows kept of 42, the report's line
    "capitals": ([("Zed_0001.jpg", "HAPPINESS"), ("Zed_0002.jpg", " Anger")], 44,
                 "2 × label in capitals or with spaces, read without: "
                 "row 44 (7,Zed_0001.jpg,HAPPINESS), row 45 (7,Zed_0002.jpg, Anger)"),
    "repeated": ([("Pa_0000.jpg", "anger")] * 2, 42,
                 "2 × row that repeats an earlier one, left out: "
                 "row 44 (Pa_0000.jpg, angry), row 45 (Pa_0000.jpg, angry)"),
    "contradicting": ([("Pa_0000.jpg", "fear")], 41,
                      "2 × picture with contradicting labels, all its rows left out: "
                      "row 2 (Pa_0000.jpg, angry), row 44 (Pa_0000.jpg, fear)"),
    "contempt": ([("Zed_0001.jpg", "contempt"), ("Zed_0002.jpg", "contempt")], 42,
                 "2 × label 'contempt', none of the seven classes, left out: "
                 "row 44 (Zed_0001.jpg, contempt), row 45 (Zed_0002.jpg, contempt)"),
    "no image name": ([("", "anger")], 42,
                      "1 × row without user.id, image and emotion, left out: row 44 (7,,anger)"),
    "four columns": ([("Pa_0001.jpg", "anger,fear")], 42,
                     "1 × row without user.id, image and emotion, left out: "
                     "row 44 (7,Pa_0001.jpg,anger,fear)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MESS)
def test_rows_that_cannot_be_used_are_named(kind: str, tmp_path: Path) -> None:
    # Unnoticed, "HAPPINESS" becomes an eighth class and a repeated row a face in two splits.
    rows, kept, line = MESS[kind]
    root = clone(tmp_path / "c", clean() + [row for row in rows if row[0]])
    text = "user.id,image,emotion\n" + "".join(f"7,{n},{w}\n" for n, w in clean() + rows)
    (root / "data" / "legend.csv").write_text(text, encoding="utf-8")
    splits = load(root)
    assert sum(map(len, splits.values())) == kept
    assert report(splits)[0] == (f"rows: {kept} of {42 + len(rows)} in data/legend.csv kept, "
                                 f"{42 + len(rows) - kept} left out")  # fmt: skip
    assert report(splits)[2:] == [line]
    reason = re.escape(line.split(" × ")[1].split(": ")[0])
    with pytest.raises(ValueError, match=f"^{reason}: row "):
        load(root, strict=True)


def test_a_header_amid_the_rows_is_no_picture(tmp_path: Path) -> None:
    # Two legends pasted together: "image" would be a missing picture of class "emotion".
    root = clone(tmp_path / "c", clean())
    legend = root / "data" / "legend.csv"
    lines = legend.read_text().splitlines()
    legend.write_text("\n".join([*lines[:9], lines[0], "", *lines[9:]]))
    line = "header row amid the rows, left out: row 10 (user.id,image,emotion)"
    assert report(load(root))[2:] == [f"1 × {line}"]
    with pytest.raises(ValueError, match=re.escape(line)):
        load(root, strict=True)


def test_the_same_label_in_both_letters_is_no_contradiction(tmp_path: Path) -> None:
    splits = load(clone(tmp_path / "c", [*clean(), ("Pa_0003.jpg", "HAPPINESS")]))
    assert [line.split(":")[0] for line in report(splits)[2:]] == [
        "1 × label in capitals or with spaces, read without",
        "1 × row that repeats an earlier one, left out",
    ]


def test_pictures_without_rows_and_rows_without_pictures(tmp_path: Path) -> None:
    root = clone(tmp_path / "c", clean())
    for k in range(5):
        (root / "images" / f"Zed_{k:04}.jpg").write_bytes(noise(str(k)))
    (root / "images" / ".DS_Store").touch()
    (root / "images" / "Pa_0000.jpg").unlink()
    assert report(load(root))[2:] == [
        "5 × file in images/ without a row, left out: Zed_0000.jpg, Zed_0001.jpg, Zed_0002.jpg, …",
        "1 × picture missing in images/, left out: row 2 (Pa_0000.jpg, angry)",
    ]


def test_a_row_cannot_lead_out_of_the_images(tmp_path: Path) -> None:
    # A legend is a stranger's file: "../../private.png" must not become a training picture.
    root = clone(tmp_path / "c", clean())
    (tmp_path / "private.png").write_bytes(noise("private"))
    with (root / "data" / "legend.csv").open("a") as file:
        file.write(f"7,../../private.png,fear\n7,{tmp_path / 'private.png'},fear\n")
    splits = load(root)
    assert sum(map(len, splits.values())) == 42
    assert report(splits)[2].startswith("2 × picture missing in images/, left out: row 44 (../..")


def test_broken_pictures_are_found_before_training(tmp_path: Path) -> None:
    root = clone(tmp_path / "c", clean())
    picture = root / "images" / "Pb_0003.jpg"
    picture.write_bytes(picture.read_bytes()[:-60])
    with Pil.open(picture) as image:
        assert image.size == (16, 16), "the header alone does not tell"
    (root / "images" / "Pa_0000.jpg").write_bytes(b"")
    line = "picture does not open, left out: row 2 (Pa_0000.jpg, angry)"
    assert report(load(root))[2:] == [f"2 × {line}, row 12 (Pb_0003.jpg, happy)"]
    with pytest.raises(ValueError, match=re.escape(line)):
        load(root, strict=True)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path, special_files: Any) -> None:
    rows = clean()
    clone(tmp_path / "clone", rows)
    special = special_files(tmp_path / "clone/images", ".jpg")
    with (tmp_path / "clone/data/legend.csv").open("a", encoding="utf-8") as legend:
        legend.writelines(f"7,{name},anger\n" for name in special)
    splits = load(tmp_path / "clone")
    assert sum(map(len, splits.values())) == len(rows)
    assert "5 × picture does not open, left out" in "\n".join(report(splits))


def test_one_picture_under_two_names(tmp_path: Path) -> None:
    # The real one has two such pairs: two teammates, one photograph.
    root = clone(tmp_path / "c", clean())
    images = root / "images"
    (images / "Pb_0000.jpg").write_bytes((images / "Pa_0000.jpg").read_bytes())  # both angry
    (images / "Pb_0001.jpg").write_bytes((images / "Pa_0002.jpg").read_bytes())  # disgust, fear
    splits = load(root)
    every = set().union(*faces(splits).values())
    assert len(every) == 39 and "Pa_0000.jpg" in every
    assert not every & {"Pb_0000.jpg", "Pb_0001.jpg", "Pa_0002.jpg"}
    assert report(splits)[2:] == [
        "1 × copy of a picture under another name, left out: row 9 (Pb_0000.jpg, angry) = "
        "Pa_0000.jpg",
        "2 × identical pictures with contradicting labels, left out: "
        "row 4 (Pa_0002.jpg, fear), row 10 (Pb_0001.jpg, disgust)",
    ]


def test_many_reasons_are_cut_and_it_says_so(tmp_path: Path) -> None:
    more = [(f"Zed_{k:04}.jpg", f"mood{k:02}") for k in range(23)]
    lines = report(load(clone(tmp_path / "c", clean() + more)))
    assert len(lines) == 23 and lines[2].startswith("1 × label 'mood00'")
    assert lines[-1] == "… and 3 more"


@pytest.mark.parametrize("ends", ["\r\n", "\r"])
def test_line_ends_and_byte_order_marks_of_spreadsheets(ends: str, tmp_path: Path) -> None:
    # A BOM before "user.id" made the header unknown; the clone's second file ends lines in \r.
    root = clone(tmp_path / "c", clean())
    legend = root / "data" / "legend.csv"
    legend.write_bytes(b"\xef\xbb\xbf" + legend.read_bytes().replace(b"\n", ends.encode()))
    assert sum(map(len, load(root, strict=True).values())) == 42


# --- splits ---


def person(name: str) -> str:
    return name.rsplit("_", 1)[0]


def test_nobody_is_in_two_splits(tmp_path: Path) -> None:
    # A network that knows George W. Bush from train has an easy test; strangers are the test.
    rng = np.random.default_rng(0)
    rows = [(f"P{chr(97 + p // 26)}{chr(97 + p % 26)}_{k:04}.jpg", WORDS[rng.integers(7)])
            for p in range(60) for k in range(rng.integers(1, 15))]  # fmt: skip
    root = clone(tmp_path / "c", rows)
    splits = load(root)
    people = {s: {person(name) for name in part} for s, part in faces(splits).items()}
    assert sum(map(len, people.values())) == 60 == len(set().union(*people.values()))
    table = np.array(list(counts(splits).values()))
    wanted = np.outer([0.7, 0.15, 0.15], table.sum(axis=0))
    assert np.abs(table - wanted).max() < 3, "people drawn by chance miss by ten faces of a class"
    plain = faces(load(root, by_person=False))
    strangers = {person(n) for n in plain["test"]} - {person(n) for n in plain["train"]}
    assert len(strangers) < 10, "else the check above could not fail"


def test_one_picture_a_person_gives_exact_shares(tmp_path: Path) -> None:
    rows = [(f"Some{word}{'x' * k}_0001.jpg", word) for word in WORDS for k in range(20)]
    splits = load(clone(tmp_path / "c", rows))
    assert counts(splits) == {"train": [14] * 7, "validation": [3] * 7, "test": [3] * 7}
    quarter = load(tmp_path / "c", test_size=0.25, validation_size=0.1)
    assert counts(quarter) == {"train": [13] * 7, "validation": [2] * 7, "test": [5] * 7}


def test_who_holds_most_of_a_rare_class_leaves_some_to_each_split(tmp_path: Path) -> None:
    # scikit-learn's grouped folds left 6 of 208 faces of disgust to the test: one actor has 104.
    held = {"Star": 16, **dict.fromkeys(("Ba", "Bb", "Bc", "Bd"), 3)}
    held |= dict.fromkeys(("Ca", "Cb", "Cc", "Cd"), 1)
    rows = [(f"{name}_{k:04}.jpg", "disgust") for name, n in held.items() for k in range(n)]
    rows += [(f"X{'x' * k}_0001.jpg", "happiness") for k in range(20)]
    root = clone(tmp_path / "c", rows)
    for seed in range(4):
        splits = load(root, seed=seed)
        assert [counts(splits)[s][1] for s in splits] == [22, 5, 5]
        assert [counts(splits)[s][3] for s in splits] == [14, 3, 3]
        assert "Star_0000.jpg" in faces(splits)["train"]


def test_the_split_hangs_on_seed_and_names_alone(tmp_path: Path) -> None:
    # The legend's order, the folder and the machine must not move a face into the test set.
    for name, rows in (("one", clean(20)), ("two", clean(20)[::-1])):
        images = clone(tmp_path / name, rows) / "images"
        (images / "Pb_0000.jpg").write_bytes((images / "Pa_0000.jpg").read_bytes())
    one, two = load(tmp_path / "one"), load(tmp_path / "two")
    assert datasets.fingerprint(one) == datasets.fingerprint(two)
    assert faces(one) == faces(two)
    assert faces(load(tmp_path / "one", seed=1))["test"] != faces(one)["test"]
    assert {person(name) for name in faces(one)["test"]} == {"Pc", "Pi", "Po"}


@pytest.mark.parametrize(
    "name, who",
    [
        ("Aaron_Eckhart_0001.jpg", "Aaron_Eckhart"),
        ("Dileep_100.jpg", "Dileep"),
        ("Steve-O_0001.jpg", "Steve-O"),
        ("facial-expressions_2868588k.jpg", "facial-expressions"),
        ("0001.jpg", "0001"),
        ("holiday.jpg", "holiday"),
    ],
)
def test_the_file_name_tells_the_person(name: str, who: str) -> None:
    # 0001.jpg and 0002.jpg are not two pictures of nobody.
    assert muxspace._Face(muxspace._Row(2, name, "happy"), {}, b"").person == who


def test_too_few_people_are_an_error_that_helps(tmp_path: Path) -> None:
    root = clone(tmp_path / "c", [(f"img_{k:04}.jpg", WORDS[k % 7]) for k in range(140)])
    with pytest.raises(ValueError, match="no face is left for validation.*by_person=False draws"):
        load(root)
    splits = load(root, by_person=False)
    assert counts(splits) == {"train": [14] * 7, "validation": [3] * 7, "test": [3] * 7}
    assert report(splits)[1] == "splits: drawn by picture, seed 0"


def test_a_class_that_a_split_lacks_is_named(tmp_path: Path) -> None:
    rows = [row for row in clean(8) if row[1] != "fear"] + [("Zed_0001.jpg", "fear")]
    splits = load(clone(tmp_path / "c", rows))
    assert splits["train"].features["label"].names == NAMES, "labels mean the same in every clone"
    assert report(splits)[2:] == [
        "2 × class without a picture in a split: fear in validation, fear in test"
    ]


@pytest.mark.parametrize("wrong", [dict(test_size=0), dict(test_size=0.6, validation_size=0.4)])
def test_shares_that_leave_a_split_empty_are_refused(wrong: dict, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"shares of the splits.*must lie in \(0, 1\)"):
        load(tmp_path, **wrong)


# --- folders and archives ---


def pack(root: Path, archive: Path, top: str = "facial_expressions-master") -> Path:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted(root.rglob("*")):
                file.write(path, f"{top}/{path.relative_to(root).as_posix()}")
    else:
        with tarfile.open(archive, "w:gz" if archive.suffix != ".tar" else "w") as file:
            file.add(root, top)
    return archive


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(tmp_path_factory.mktemp("whole") / "c", clean(8))


@pytest.mark.parametrize("name", ["c.tar", "c.tar.gz", "c.TGZ", "c.zip", "around"])
def test_a_clone_is_the_same_however_it_is_packed(name: str, whole: Path, tmp_path: Path) -> None:
    # Nothing is unpacked to disk either: the place may be read-only.
    path = tmp_path / name
    if name == "around":
        path.mkdir()
        (path / "facial_expressions-master").symlink_to(whole, target_is_directory=True)
    else:
        pack(whole, path)
    before = sorted(tmp_path.rglob("*"))
    assert muxspace.is_muxspace(path) and not folder.is_folder(path)
    splits = datasets.normalise(load(path, strict=True))
    assert datasets.fingerprint(splits) == datasets.fingerprint(load(whole))
    assert sorted(tmp_path.rglob("*")) == before
    value = splits["train"].cast_column("image", Image(decode=False))[0]["image"]
    assert (value["bytes"] is None) == path.is_dir()
    assert splits["train"][0]["image"].size == (16, 16)


@pytest.mark.parametrize("top", [".", "./facial_expressions-master"])
def test_archives_whose_names_begin_with_a_dot(top: str, whole: Path, tmp_path: Path) -> None:
    # `tar -cf ../clone.tar .` writes names such as ./images/a.jpg.
    path = pack(whole, tmp_path / "c.tar", top)
    assert muxspace.is_muxspace(path)
    assert sum(map(len, load(path, strict=True).values())) == 56


def test_links_in_an_archive_are_not_followed(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A tar is a stranger's file: its links and ".." must neither read nor write anything here.
    secret = tmp_path / "secret.png"
    secret.write_bytes(noise("secret"))
    path = pack(whole, tmp_path / "c.tar")
    with tarfile.open(path, "a") as file:
        link = tarfile.TarInfo("facial_expressions-master/images/Link_0001.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        file.addfile(link)
        for name in ("../images/Up_0001.jpg", "facial_expressions-master/images/Pa_0000.jpg"):
            again = tarfile.TarInfo(name)
            again.size = 5000
            file.addfile(again, io.BytesIO(noise(name) + bytes(5000)))
    before = sorted(tmp_path.rglob("*"))
    line = ("archive member not read (link or device): "
            "facial_expressions-master/images/Link_0001.jpg")  # fmt: skip
    assert report(load(path))[2:] == [f"1 × {line}"]
    with pytest.raises(ValueError, match=re.escape(line)):
        load(path, strict=True)
    assert sorted(tmp_path.rglob("*")) == before
    monkeypatch.setattr(muxspace, "LARGEST", 4000)  # a bomb unpacks to more than memory holds
    assert report(load(path))[3].startswith("2 × archive member not read (larger than")


def test_what_is_no_clone_is_said(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds 0 clones"):
        load(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(whole, target_is_directory=True)
    with pytest.raises(ValueError, match="holds 2 clones"):
        load(tmp_path)
    root = clone(tmp_path / "c", [("a.jpg", "fear")], head="image,label\n")
    with pytest.raises(ValueError, match="begins with image,label; expected user.id,image,emotion"):
        load(root)
    (root / "data" / "legend.csv").write_text("")
    with pytest.raises(ValueError, match="begins with nothing"):
        load(root)
    (root / "data" / "legend.csv").write_text("user.id,image,emotion\n")
    with pytest.raises(ValueError, match=r"no face is left for train; met(?s:.*)1 × file in im"):
        load(root)
    (root / "data" / "legend.csv").write_text(
        'user.id,image,emotion\n7,"a.jpg,fear\n' + "7,a.jpg,fear\n" * 20_000)  # fmt: skip
    with pytest.raises(ValueError, match="row .*field larger"):
        load(root)


@pytest.mark.parametrize("name", ["c.tar", "c.tgz", "c.zip"])
def test_a_download_that_broke_off(name: str, whole: Path, tmp_path: Path) -> None:
    # Half an archive must not pass for a small one.
    path = pack(whole, tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="damaged|holds 0 clones"):
        load(path)
    path.write_bytes(b"<html>404</html>")
    assert not muxspace.is_muxspace(path)
    with pytest.raises(ValueError, match="damaged, or no archive"):
        load(path)


@pytest.mark.parametrize(
    "there",
    [
        ["images/a.jpg"],
        ["data/legend.csv"],
        ["data/legend.csv", "x/images/a.jpg"],
        ["train/happy/a.jpg", "test/happy/a.jpg"],
        ["data/train-00000-of-00001.parquet"],
        ["x/y/images/a.jpg", "x/y/data/legend.csv"],
        [],
    ],
)
def test_other_forms_are_not_taken_for_a_clone(there: list[str], tmp_path: Path) -> None:
    root = tmp_path / "c"
    root.mkdir()
    for name in there:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    assert not muxspace.is_muxspace(root)
    assert not muxspace.is_muxspace(pack(root, tmp_path / "c.tar", "."))
    assert not muxspace.is_muxspace(pack(root, tmp_path / "c.zip", "d"))
    (tmp_path / "legend.csv").touch()
    assert not muxspace.is_muxspace(tmp_path / "legend.csv")
    assert not muxspace.is_muxspace(str(tmp_path / "nowhere.tar"))


# --- the real one ---


@pytest.mark.slow
def test_the_original_is_read_whole(muxspace_tar: Path) -> None:
    assert muxspace.is_muxspace(muxspace_tar)
    splits = load(muxspace_tar)
    lines = report(splits)
    assert lines[0] == "rows: 13,670 of 13,690 in data/legend.csv kept, 20 left out"
    assert [line.split(": ")[0] for line in lines[2:]] == [
        "921 × label in capitals or with spaces, read without",
        "36 × file in images/ without a row, left out",
        "9 × label 'contempt', none of the seven classes, left out",
        "7 × row that repeats an earlier one, left out",
        "2 × picture with contradicting labels, all its rows left out",
        "2 × copy of a picture under another name, left out",
    ]
    # Against the legend itself, read by other means.
    with tarfile.open(muxspace_tar) as file:
        text = file.extractfile("facial_expressions-master/data/legend.csv").read().decode()
    legend = {row["image"]: row["emotion"].lower() for row in csv.DictReader(io.StringIO(text))}
    found = faces(splits)
    for part in found.values():
        assert all(NAMES[WORDS.index(legend[name])] == label for name, label in part.items())
    people = [{re.sub(r"_?\d+k?\.jpg$", "", name) for name in part} for part in found.values()]
    assert not people[0] & people[1] and not people[0] & people[2] and not people[1] & people[2]
    table = np.array(list(counts(splits).values()))
    assert table.sum(axis=0).tolist() == [252, 208, 21, 5693, 267, 367, 6862]
    shares = table / table.sum(axis=0)
    assert np.abs(shares - [[0.7], [0.15], [0.15]]).max() < 0.05


@pytest.mark.slow
def test_the_original_is_refused_by_strict(muxspace_tar: Path) -> None:
    with pytest.raises(ValueError, match="label in capitals or with spaces.*row 12771"):
        load(muxspace_tar, strict=True)
