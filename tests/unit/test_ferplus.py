"""FER+: votes stay beside their faces, and what does not fit is refused.

Votes are drawn here. Where FER2013_DATA names the real faces and FER+ lies beside them, those are
read too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from lab import datasets
from lab.datasets import fer2013, ferplus, hf_folder

USAGES = ("Training", "PublicTest", "PrivateTest")
SIZES = {"train": 28_709, "validation": 3_589, "test": 3_589}


@pytest.fixture(scope="module")
def real(fer2013_folder: Path) -> DatasetDict:
    return hf_folder.load(fer2013_folder)


def faces(labels: Sequence[int], row: bool = False) -> DatasetDict:
    """A third of the labels each in train, validation and test, with pictures and, if `row`, their
    numbers in the whole."""
    features = Features(image=Image(), label=ClassLabel(names=list(fer2013.CLASS_NAMES)))
    splits = DatasetDict()
    for k, split in enumerate(SIZES):
        here = range(k * len(labels) // 3, (k + 1) * len(labels) // 3)
        columns: dict[str, Any] = {
            "image": [{"bytes": b"P5 2 1 255 " + i.to_bytes(2, "big"), "path": None} for i in here],
            "label": [labels[i] for i in here],
        }
        if row:
            columns["row"], features["row"] = list(here), Value("int32")
        splits[split] = Dataset.from_dict(columns, features=features)
        splits[split].info.description = "found somewhere"
    return splits


def usages(count: int) -> list[str]:
    return [USAGES[3 * i // count] for i in range(count)]


def drawn(count: int) -> list[int]:
    return np.random.default_rng(0).integers(0, 7, count).tolist()


def without(splits: DatasetDict, lost: int) -> DatasetDict:
    """All rows but one, counted over train, validation and test."""
    kept, start = DatasetDict(), 0
    for split, part in splits.items():
        kept[split] = part.select([i for i in range(len(part)) if start + i != lost])
        start += len(part)
    return kept


def votes_of(splits: DatasetDict) -> list[list[int]]:
    return [votes for part in splits.values() for votes in part["votes"]]


def pictures(splits: DatasetDict) -> list[bytes]:
    raw = (part.cast_column("image", Image(decode=False)) for part in splits.values())
    return [row["image"]["bytes"] for part in raw for row in part]


# --- joining ---


def write_votes(
    file: Path,
    votes: Sequence[Sequence[int]] | np.ndarray,
    usage: Sequence[str] | None = None,
    numbers: Sequence[int] | None = None,
) -> Path:
    lines = [",".join(["Usage", "Image name", *ferplus.VOTE_NAMES])]
    for row, counts in enumerate(votes):
        number = row if numbers is None else numbers[row]
        name = f"fer{number:07d}.png" if number >= 0 else ""
        lines.append(",".join([(usage or usages(len(votes)))[row], name, *map(str, counts)]))
    file.write_text("\n".join(lines) + "\n")
    return file


def numbered(count: int) -> np.ndarray:
    """Votes (count, 10) that tell their row: its digits, written into the ten counts."""
    return np.array([[row // 2**bit % 2 for bit in range(10)] for row in range(count)])


def agreeing(labels: Sequence[int]) -> np.ndarray:
    """Votes (N, 10): ten for the expression that the label of CLASS_NAMES names."""
    votes = np.zeros((len(labels), 10), int)
    for row, label in enumerate(labels):
        votes[row, ferplus.FERPLUS_NAMES.index(fer2013.CLASS_NAMES[label])] = 10
    return votes


def test_votes_stand_beside_their_rows(tmp_path: Path) -> None:
    splits = faces(drawn(12))
    path = write_votes(tmp_path / "fer2013new.csv", numbered(12))
    joined = ferplus.join_votes(splits, path)
    assert votes_of(joined) == numbered(12).tolist()
    assert pictures(joined) == pictures(splits)
    for split, part in joined.items():
        assert part["label"][:] == splits[split]["label"][:]
        assert part.info.description == "found somewhere"
    again = ferplus.join_votes(joined, path)  # the column is replaced, not doubled
    assert again["test"].column_names == ["image", "label", "votes"]
    backwards = DatasetDict({split: splits[split] for split in reversed(SIZES)})
    assert votes_of(ferplus.join_votes(backwards, path))[-4:] == numbered(12)[:4].tolist()


@pytest.mark.parametrize("lost", [1, 5, 11])
def test_a_row_left_out_takes_its_votes_along(lost: int, tmp_path: Path) -> None:
    # Counted again, every vote behind the lost row would belong to the next face.
    path = write_votes(tmp_path / "fer2013new.csv", numbered(12))
    joined = ferplus.join_votes(without(faces(drawn(12), row=True), lost), path)
    assert votes_of(joined) == np.delete(numbered(12), lost, axis=0).tolist()
    with pytest.raises(ValueError, match="11 rows .*12 votes .*column row"):
        ferplus.join_votes(without(faces(drawn(12)), lost), path)


def test_votes_for_another_split_are_refused(tmp_path: Path) -> None:
    wrong = usages(12)
    wrong[3], wrong[4] = wrong[4], wrong[3]
    path = write_votes(tmp_path / "fer2013new.csv", numbered(12), wrong)
    for row in (False, True):
        with pytest.raises(ValueError, match="row 3 .*is in train, .*for validation; .*fer2013new"):
            ferplus.join_votes(faces(drawn(12), row), path)


def test_rows_that_the_votes_do_not_have(tmp_path: Path) -> None:
    path = write_votes(tmp_path / "fer2013new.csv", numbered(12))
    splits = faces(drawn(12), row=True)
    numbers = splits["test"]["row"][:]
    for last, told in ((12, "row 12 .* of test is beyond the last"), (-1, "test: column row"),
                       (None, "test: column row")):  # fmt: skip
        part = splits["test"].remove_columns("row").add_column("row", [*numbers[:-1], last])
        with pytest.raises(ValueError, match=told):
            ferplus.join_votes(DatasetDict(splits | {"test": part}), path)
    with pytest.raises(ValueError, match=r"found the splits \['train'\]"):
        ferplus.join_votes(DatasetDict(train=splits["train"]), path)


@pytest.mark.parametrize("moved", SIZES)
def test_shuffled_rows_get_their_own_votes_or_none(moved: str, tmp_path: Path) -> None:
    # The counts fit, every split's size fits, and a third of the faces has a stranger's votes:
    # over the whole file majority and label still agree for most.
    labels = drawn(600)
    path = write_votes(tmp_path / "fer2013new.csv", agreeing(labels))
    splits = faces(labels, row=True)
    splits[moved] = splits[moved].shuffle(seed=0)
    told = ferplus.majority(ferplus.join_votes(splits, path))[moved]
    kind, before = told.features["label"], splits[moved].features["label"]
    assert [kind.int2str(k) for k in told["label"]] == before.int2str(splits[moved]["label"][:])
    uncounted = splits.remove_columns("row")
    for attempt in (uncounted, fer2013.merge(uncounted)):
        with pytest.raises(ValueError, match="belong to other faces"):
            ferplus.join_votes(attempt, path)


def test_a_row_lost_before_the_rows_were_numbered(tmp_path: Path) -> None:
    # Somebody's fer2013.csv without one face of PrivateTest: no Usage tells, only the labels do.
    labels = drawn(600)
    path = write_votes(tmp_path / "fer2013new.csv", agreeing(labels))
    splits = without(faces(labels, row=True), 420)
    ferplus.join_votes(splits, path)
    numbers = list(range(400, 599))
    splits["test"] = splits["test"].remove_columns("row").add_column("row", numbers)
    with pytest.raises(ValueError, match=r"faces in rows 4\d\d to \d+, .*lost before"):
        ferplus.join_votes(splits, path)


def test_a_selection_is_no_wrong_order(tmp_path: Path) -> None:
    # The crowd rarely sees fear where the label does; that is no reason to refuse fear alone.
    labels = [2 if i % 2 else 3 for i in range(600)]
    path = write_votes(tmp_path / "fer2013new.csv", agreeing([3] * 600))
    fear = faces(labels, row=True).filter(lambda label: label == 2, input_columns="label")
    joined = ferplus.join_votes(fear, path)
    assert sum(map(len, ferplus.majority(joined).values())) == 300


def test_faces_in_the_order_of_their_names(tmp_path: Path) -> None:
    # FER+ gives some rows neither name nor number, so picture i is not row i behind them.
    labels = drawn(150)
    votes = agreeing(labels)
    nothing = np.array([[0] * 9 + [10]])
    votes = np.concatenate([votes[:10], nothing, votes[10:149]])
    numbers = [*range(10), -1, *range(10, 149)]
    path = write_votes(tmp_path / "fer2013new.csv", votes, usages(150), numbers)
    with pytest.raises(ValueError, match='by="name"'):
        ferplus.join_votes(faces(labels), path)
    joined = ferplus.join_votes(faces(labels), path, by="name")
    assert joined["train"]["votes"][10] == agreeing([labels[10]])[0].tolist()
    assert joined["test"]["votes"][-1] == nothing[0].tolist()
    fewer = ferplus.join_votes(without(faces(labels, row=True), 3), path, by="name")
    assert votes_of(fewer) == np.delete(votes_of(joined), 3, axis=0).tolist()
    with pytest.raises(ValueError, match="148 rows, but .* names picture 148"):
        ferplus.join_votes(without(without(faces(labels), 3), 3), path, by="name")
    with pytest.raises(ValueError, match="neither"):
        ferplus.join_votes(faces(labels), path, by="nmae")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("Training,fer0000000.png,1,2,3", "line 2"),
        ("Training,fer0000000.png,1,2,3,4,5,6,7,8,9,x", "line 2"),
        ("Trainin,fer0000000.png,1,2,3,4,5,6,7,8,9,0", "line 2"),
        ("Training,fer0000000.png,-1,2,3,4,5,6,7,8,9,0", "line 2"),
        ("", "no votes"),
    ],
)
def test_broken_votes_are_named(line: str, told: str, tmp_path: Path) -> None:
    path = write_votes(tmp_path / "fer2013new.csv", [])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=f"fer2013new.csv.*{told}"):
        ferplus.join_votes(faces(drawn(12)), path)
    (tmp_path / "fer2013.csv").write_text("emotion,pixels,Usage\n")
    with pytest.raises(ValueError, match="fer2013.csv has no column .*neutral"):
        ferplus.join_votes(faces(drawn(12)), tmp_path / "fer2013.csv")


def test_votes_through_the_front_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One face of the file cannot be read: those behind it must come with their own votes.
    pixels = " ".join(["7"] * 2304)
    lines = [f"{i % 7},{pixels},{usage}" for i, usage in enumerate(usages(12))]
    lines[1] = lines[1].replace(" 7", " 700", 1)
    file = tmp_path / "fer2013.csv"
    file.write_text("\n".join(["emotion,pixels,Usage", *lines]) + "\n")
    path = write_votes(tmp_path / "fer2013new.csv", numbered(12))
    splits = datasets.load(file, votes=path)
    assert votes_of(splits) == np.delete(numbered(12), 1, axis=0).tolist()
    assert splits["test"].column_names == ["image", "label", "votes"]
    assert datasets.report(splits)[0] == "fer2013.csv: 11 of 12 rows kept, 1 left out"
    assert datasets.load(file).column_names["test"] == ["image", "label"]

    late = write_votes(tmp_path / "late.csv", numbered(12), None, [-1, *range(11)])
    named = datasets.load(file, votes=late, votes_by="name")
    assert votes_of(named)[0] == numbered(2)[1].tolist()  # row 0 is picture 0, in row 1 of FER+

    (tmp_path / "set" / "data").mkdir(parents=True)  # another form, whose split has another name
    for split, part in faces(drawn(12)).items():
        name = split.replace("validation", "val")
        part.to_parquet(str(tmp_path / "set" / "data" / f"{name}-00000-of-00001.parquet"))
    monkeypatch.setenv("EXPRESSION_DATA", str(tmp_path / "set"))
    splits = datasets.load(votes=path, say=lambda text: None)
    assert votes_of(splits) == numbered(12).tolist()

    monkeypatch.setenv("EXPRESSION_DATA", "synthetic")
    for where in (None, "synthetic"):  # drawn faces have no votes, and must not seem to
        with pytest.raises(ValueError, match="votes belong to FER2013"):
            datasets.load(where, votes=path)


def mostly(labels: list[int]) -> np.ndarray:
    """Votes of a crowd that names the label of two faces in three, as FER+'s voters do."""
    dice = np.random.default_rng(1)
    named = np.where(dice.random(len(labels)) < 2 / 3, labels, dice.integers(0, 7, len(labels)))
    return agreeing(named.tolist())


@pytest.mark.parametrize("way", ["row", "name"])
def test_votes_go_the_way_in_which_crowd_and_label_agree(way: str, tmp_path: Path) -> None:
    # Kaggle's rows and the names of FER+'s pictures run apart behind a row without a face.
    labels = drawn(900)
    counts = mostly(labels)
    numbers: list[int] = [*range(20), -1, *range(20, 899)] if way == "row" else list(range(900))
    if way == "name":  # the file's rows in another order than the faces, their names right
        numbers = np.random.default_rng(2).permutation(900).tolist()
        counts = counts[numbers]
    path = write_votes(tmp_path / "fer2013new.csv", counts, None, numbers)
    joined = ferplus.join_votes(faces(labels), path, by="either")
    assert votes_of(joined) == votes_of(ferplus.join_votes(faces(labels), path, by=way))


def test_copies_in_an_unknown_order_get_no_votes(tmp_path: Path) -> None:
    # A hub's copy may be shuffled: each face would learn what the crowd said of another.
    labels = drawn(900)
    path = write_votes(tmp_path / "fer2013new.csv", mostly(labels))
    shuffled = np.random.default_rng(3).permutation(labels).tolist()
    with pytest.raises(ValueError, match=r"fit neither way.*by name.*by row"):
        ferplus.join_votes(faces(shuffled), path, by="either")
    with pytest.raises(ValueError, match="cannot be checked with 90 faces"):
        few = write_votes(tmp_path / "few.csv", mostly(labels[:90]))
        ferplus.join_votes(faces(labels[:90]), few, by="either")


# --- the majority ---


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([4, 0, 0, 0, 3, 0, 0, 0, 0, 0], "neutral"),
        ([5, 0, 0, 5, 0, 0, 0, 0, 0, 0], None),  # half is no majority
        ([2, 1, 1, 1, 1, 1, 1, 1, 1, 0], "neutral"),  # single votes are outliers
        ([1, 1, 1, 1, 1, 1, 1, 1, 1, 1], None),
        ([0, 0, 0, 0, 0, 0, 0, 5, 5, 0], None),  # unknown counts among the votes
        ([0, 0, 0, 0, 0, 0, 0, 6, 3, 0], "contempt"),
        ([0, 0, 0, 0, 0, 0, 0, 5, 3, 2], None),  # and so does NF
        ([3, 0, 0, 0, 0, 0, 0, 0, 7, 0], None),  # unknown itself is no class
        ([0, 7, 0, 3, 0, 0, 0, 0, 0, 0], "happy"),
    ],
)
def test_the_majority_rule(votes: list[int], expected: str | None, tmp_path: Path) -> None:
    clear = [0, 0, 10, *[0] * 7]
    path = write_votes(tmp_path / "fer2013new.csv", [votes, *[clear] * 5])
    splits = ferplus.majority(ferplus.join_votes(faces(drawn(6)), path))
    kind = splits["train"].features["label"]
    assert kind.names == list(ferplus.FERPLUS_NAMES)
    found = [kind.int2str(k) for k in splits["train"]["label"]]
    assert found == ([expected] if expected else []) + ["surprise"]
    told = f"FER+ majority: {len(found)} of 2 train rows kept"
    assert splits["train"].info.description.splitlines() == ["found somewhere", told]


def test_a_majority_needs_votes_and_leaves_faces(tmp_path: Path) -> None:
    splits = faces(drawn(12))
    with pytest.raises(ValueError, match="join_votes"):
        ferplus.majority(splits)
    path = write_votes(tmp_path / "fer2013new.csv", np.ones((12, 10), int))
    with pytest.raises(ValueError, match="train: on none of 4 faces"):
        ferplus.majority(ferplus.join_votes(splits, path))


def test_the_real_votes_leave_the_counts_of_the_paper(ferplus_csv: Path) -> None:
    # Whether single votes, ties, unknown and NF count decides which faces are left: 24,059 to
    # 27,457 of the training set between the readings of the rule.
    splits = DatasetDict({s: Dataset.from_dict({"face": range(n)}) for s, n in SIZES.items()})
    chosen = ferplus.majority(ferplus.join_votes(splits, ferplus_csv))
    assert [len(part) for part in chosen.values()] == [25_060, 3_199, 3_153]


@pytest.mark.slow
def test_real_votes_fit_real_faces_in_one_order_only(real: DatasetDict, ferplus_csv: Path) -> None:
    # Both orders have the right number of rows; in the wrong one, votes are for other faces.
    fitting = []
    for by in ("row", "name"):
        try:
            fitting.append(ferplus.majority(ferplus.join_votes(real, ferplus_csv, by=by)))
        except ValueError as error:
            assert "belong to other faces" in str(error)
    assert len(fitting) == 1
    assert 31_400 < sum(map(len, fitting[0].values())) < 31_420
