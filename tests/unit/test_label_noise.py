"""Label noise: ceilings of hand-made votes, the list of doubted labels, and the file that training
takes. Where the real faces and votes are here, known counts of FER+ are met.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image

from lab import data
from lab.datasets import cleaned, fer2013, fingerprint, synthetic
from lab.datasets.cleaned import Change, face_id, read_changes, replace_labels, write_changes
from lab.datasets.ferplus import VOTE_NAMES
from lab.label_noise import ceiling, memory, predict_labels, suspects

NAMES = ("angry", "happy", "sad", "neutral")
COLUMN = {"angry": "anger", "happy": "happiness", "sad": "sadness"}


def votes(*faces: dict[str, int]) -> torch.Tensor:
    """Counts (N, 10) from {class or FER+'s word: votes} of each face."""
    counts = torch.zeros(len(faces), 10, dtype=torch.uint8)
    for row, face in enumerate(faces):
        for name, number in face.items():
            counts[row, VOTE_NAMES.index(COLUMN.get(name, name))] = number
    return counts


# Five faces, all labelled sad but the last, which is labelled happy.
VOTES = votes(
    {"sad": 10},  # all agree with the label
    {"sad": 6, "neutral": 4},  # six of ten
    {"sad": 4, "neutral": 4, "angry": 2},  # a tie that holds the label
    {"neutral": 7, "sad": 1, "unknown": 2},  # the crowd contradicts the label
    {"NF": 10},  # no face, so no answer is right
)
LABELS = torch.tensor([2, 2, 2, 2, 1])


def test_the_ceiling_of_votes_that_can_be_counted_by_hand() -> None:
    told = ceiling(LABELS, VOTES, VOTE_NAMES, NAMES)
    assert told["most_voted"] == {"k": 2, "n": 5, "tied": 1}
    assert told["one_voter"] == {"k": 10 + 6 + 4 + 1 + 0, "n": 50}
    assert told["majority"] == {"k": 2, "n": 3}  # the tie and the face without one have none
    assert told["label_as_vote"] == pytest.approx((1 + 0.6 + 0.4 + 7 / 8) / 4)
    assert told["by_class"]["sad"]["most_voted"] == {"k": 2, "n": 4, "tied": 1}
    assert told["by_class"]["happy"]["one_voter"] == {"k": 0, "n": 10}
    assert told["by_class"]["angry"]["most_voted"]["n"] == 0
    assert told["confusion"] == [[0] * 4, [0] * 4, [0, 0, 2, 1], [0] * 4]


def test_a_tie_is_never_right_by_the_order_of_the_classes() -> None:
    # argmax would call the first of two equal classes the crowd's answer: neutral by FER+'s order,
    # angry by FER2013's, and the ceiling would depend on it.
    tie = votes({"angry": 5, "neutral": 5})
    for label in (0, 3):
        told = ceiling(torch.tensor([label]), tie, VOTE_NAMES, NAMES)
        assert told["most_voted"] == {"k": 0, "n": 1, "tied": 1}


def test_known_habits_of_the_labels_beat_the_most_voted_class() -> None:
    # Whoever labelled called every face "angry" on which the crowd is torn: a rule to be learnt.
    rng = np.random.default_rng(0)
    sad = rng.integers(5, 11, 400)
    counts = votes(*({"sad": int(k), "angry": int(10 - k)} for k in sad))
    labels = torch.from_numpy(np.where(sad < 8, 0, 2))
    most_voted = ceiling(labels, counts, VOTE_NAMES, NAMES)["most_voted"]["k"]
    best = int((predict_labels(counts[:300], labels[:300], counts) == labels).sum())
    assert most_voted < 250 and best > 390


def test_a_label_is_doubted_only_where_crowd_and_every_network_say_the_same() -> None:
    labels = torch.tensor([0, 0, 0, 0, 0, 1])
    top = torch.tensor([1, 1, 1, -1, 4, 1])  # -1: no majority; 4: a class the data lack (contempt)
    first = torch.tensor([1, 1, 2, 1, 4, 1])
    second = torch.tensor([1, 0, 2, 1, 4, 1])
    assert suspects(labels, top, torch.stack([first]), 4).tolist() == [0, 1]
    assert suspects(labels, top, torch.stack([first, second]), 4).tolist() == [0]


def test_a_network_s_memory_is_known_from_its_card() -> None:
    faces = data.Faces(DatasetDict(), "drawn", "f" * 16)

    def card(mark: str, *heads: str) -> dict:
        return {"data": {"fingerprint": mark * 16}} | (
            {"heads": dict.fromkeys(heads, 1.0)} if heads else {}
        )

    assert memory(card("f"), faces) == ["labels"]
    assert memory(card("f", "label", "votes"), faces) == ["labels", "votes"]
    assert memory(card("f", "votes"), faces) == ["votes"]
    assert memory(card("0", "votes"), faces) == []  # taught other faces


# --- the file ---


def splits(labels: Sequence[int] = (0, 1, 2, 3, 0, 1, 2, 3)) -> DatasetDict:
    """Four training faces, two of validation, two of test; numbers 0 to 7 in this order."""
    features = Features(image=Image(), label=ClassLabel(names=list(NAMES)))
    parts = {"train": range(4), "validation": range(4, 6), "test": range(6, 8)}
    return DatasetDict({
        split: Dataset.from_dict(
            {"image": [{"bytes": b"picture %d" % i, "path": None} for i in rows],
             "label": [labels[i] for i in rows]}, features=features)
        for split, rows in parts.items()
    })  # fmt: skip


CHANGES = [
    Change(1, "train", "happy", "sad", 9, 0.75),
    Change(3, "train", "neutral", "sad", 6, 0.5),
    Change(5, "validation", "happy", "neutral", 8, 0.9),
]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = write_changes(tmp_path / "cleaned.csv", CHANGES)
    assert file.read_text().splitlines()[1] == "fer0000001.png,train,happy,sad,9,0.750"
    assert [c[:4] for c in read_changes(file)] == [c[:4] for c in CHANGES]


def test_training_labels_are_replaced_and_no_others(tmp_path: Path) -> None:
    before, file = splits(), write_changes(tmp_path / "cleaned.csv", CHANGES)
    after = replace_labels(before, file)
    assert after["train"]["label"][:] == [0, 2, 2, 2]
    # Validation labels stay as published: figures on them must compare with anybody else's.
    for split in ("validation", "test"):
        assert after[split]["label"][:] == before[split]["label"][:]
    assert "2 of 4" in after["train"].info.description
    plain = [part.cast_column("image", Image(decode=False)) for part in (before["train"],
             after["train"])]  # fmt: skip
    assert plain[0]["image"][:] == plain[1]["image"][:]
    assert fingerprint(after) != fingerprint(before)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (Change(0, "train", "sad", "angry"), "fer0000000.png.*angry here, not sad"),
        (Change(9, "test", "sad", "angry"), "fer0000009.png"),
        (Change(5, "train", "happy", "sad"), "fer0000005.png.*4 faces of train"),
        (Change(4, "train", "angry", "sad"), "fer0000004.png"),  # a face of validation
        (Change(1, "train", "happy", "contempt"), "contempt"),
    ],
)
def test_a_row_of_another_data_set_is_refused(tmp_path: Path, change: Change, told: str) -> None:
    # A row that fits by its number alone would give one face's label to another, unseen.
    file = write_changes(tmp_path / "cleaned.csv", [change])
    with pytest.raises(ValueError, match=told):
        replace_labels(splits(), file)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("face12.png,train,sad,happy", "line 2"),
        ("fer0000012.png,dev,sad,happy", "line 2"),
        ("fer0000001.png,train,happy,sad\nfer0000001.png,train,happy,angry", "line 3"),
    ],
)
def test_a_line_that_names_no_face_is_named(tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "cleaned.csv"
    file.write_text(f"id,split,label,cleaned_label\n{line}\n")
    with pytest.raises(ValueError, match=told):
        read_changes(file)
    file.write_text("id,label\n")
    with pytest.raises(ValueError, match="cleaned_label, split"):
        read_changes(file)


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    synthetic.load(train=6, validation=2, test=2, size=16).save_to_disk(tmp_path / "drawn")
    return tmp_path / "drawn"


def test_the_data_say_that_their_labels_were_cleaned(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The same name and fingerprint would let a run on cleaned labels pass for one on the labels
    # as published.
    before = data.read(str(drawn))
    label = before.class_names[int(before.labels("train")[2])]
    other = next(name for name in before.class_names if name != label)
    file = write_changes(tmp_path / "cleaned.csv", [Change(2, "train", label, other)])
    after = data.read(str(drawn), cleaned_labels=file)
    assert "1 of 6" in capsys.readouterr().out
    assert after.name == "drawn_cleaned" and after.fingerprint != before.fingerprint
    assert len(after.identity(votes=False)["cleaned_labels"]) == 64
    assert "cleaned_labels" not in before.identity(votes=False)
    assert int((after.labels("train") != before.labels("train")).sum()) == 1
    order = before.class_names[::-1]
    assert after.with_classes(order, "net").cleaned == after.cleaned


def test_a_packed_file_keeps_cleaned_labels(tmp_path: Path) -> None:
    rows = {"train": 2, "validation": 1, "test": 1}
    faces = synthetic.load(**rows, size=16)
    packed = data.pack(
        data.Faces(faces, "drawn_cleaned", "0" * 16, cleaned="a" * 64), tmp_path / "drawn.npz", 16
    )
    assert data.read(str(packed)).cleaned == "a" * 64 and not data.read(str(packed)).merged
    merged = data.Faces(faces, "drawn_4", "0" * 16, merged=True)
    assert data.read(str(data.pack(merged, tmp_path / "drawn_4.npz", 16))).merged
    with pytest.raises(ValueError, match="packed"):
        data.read(str(packed), cleaned_labels=tmp_path / "cleaned.csv")


# --- the real faces ---


def test_ids_are_those_of_ferplus(fer2013_folder: Path, ferplus_csv: Path) -> None:
    """A face's id here is the picture that FER+ names beside the same votes."""
    faces = data.read(str(fer2013_folder), votes=ferplus_csv)
    line = next(x for x in ferplus_csv.read_text().splitlines() if "fer0000100.png" in x)
    counts = faces.vote_counts("train")
    assert counts is not None and face_id(100) == line.split(",")[1]
    assert counts[0][100].tolist() == [int(x) for x in line.split(",")[2:]]
    told = ceiling(faces.labels("train"), counts[0], counts[1], faces.class_names)
    assert told["most_voted"]["n"] == len(faces.labels("train"))
    assert 0.6 < told["most_voted"]["k"] / told["most_voted"]["n"] < 0.7
    assert faces.class_names == list(fer2013.CLASS_NAMES) and cleaned.COLUMNS[0] == "id"
