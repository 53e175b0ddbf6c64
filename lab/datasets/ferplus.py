"""Join the crowd's votes of FER+ to the faces of FER2013, and keep those it agrees on.

Why: people agree with FER2013's labels about two times in three. FER+ asked ten people about each
face, but its file names rows, not pictures: if one face is missing or two are swapped, every face
behind gets the votes of another, and all counts still look right. So a wrong order is refused: it
shows in Usage, and in how often the majority and the label name the same expression.
The votes (github.com/microsoft/FERPlus, MIT) and the majority rule: Barsoum et al. 2016,
arXiv:1608.01041.
"""

import csv
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, DatasetDict, List, Value

from lab.class_names import canonical
from lab.datasets.reading import arrow_table, with_column
from lab.datasets.splits import SPLITS, USAGES

__all__ = ["FERPLUS_NAMES", "VOTE_NAMES", "join_votes", "majority"]

# The ten things a voter could say, in the order of the file; the first eight as classes here.
VOTE_NAMES = tuple(
    "neutral happiness surprise sadness anger disgust fear contempt unknown NF".split()
)
FERPLUS_NAMES = tuple(map(canonical, VOTE_NAMES[:8]))  # "neutral", "happy", …

_VOTES = List(Value("uint8"), length=len(VOTE_NAMES))
_NO_FACE = np.array([0] * 9 + [10], np.uint8)  # ten votes for NF
# Label and majority name the same expression for 68 % of the faces beside their own votes (55 % or
# more of any hundred in a row), for 18 % beside others' (29 % or less).
_AGREE, _BLOCK = 0.4, 100
_Arrays = dict[str, np.ndarray]  # one for each split


class _Votes(NamedTuple):
    """A FER+ file: the split of each row, its picture's number (-1: no name), votes (N, 10)."""

    name: str
    splits: np.ndarray
    numbers: np.ndarray
    counts: np.ndarray


def _read_votes(path: str | Path) -> _Votes:
    file = Path(path).expanduser()
    splits, numbers, counts = [], [], []
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        missing = {"Usage", "Image name", *VOTE_NAMES} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(
                f"{file.name} has no column {', '.join(sorted(missing))}; found "
                f"{reader.fieldnames}; expected FER+'s fer2013new.csv"
            )
        for row in reader:
            try:
                splits.append(USAGES[row["Usage"]])
                name = row["Image name"].strip()  # "fer0000012.png", or nothing: no face
                numbers.append(int(name[3:].split(".")[0]) if name else -1)
                counts.append(np.array([row[column] for column in VOTE_NAMES], np.uint8))
            except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
                raise ValueError(
                    f"{file.name}, line {reader.line_num}: {list(row.values())} is no row of "
                    "Usage, Image name and ten counts of votes"
                ) from error
    if not counts:
        raise ValueError(f"{file.name} holds no votes, only its header")
    return _Votes(file.name, np.array(splits), np.array(numbers), np.stack(counts))


def _row_numbers(splits: DatasetDict) -> tuple[_Arrays, bool]:
    """The rows of each split's faces in fer2013.csv (N,), and whether they were counted here."""
    if any("row" not in rows.column_names for rows in splits.values()):
        ends = np.cumsum([len(splits[split]) for split in SPLITS])
        parts = np.split(np.arange(ends[-1]), ends[:-1])
        return dict(zip(SPLITS, parts, strict=True)), True
    numbers = {split: np.array(splits[split]["row"][:]) for split in SPLITS}
    for split, found in numbers.items():
        if found.dtype.kind not in "iu" or found.min() < 0:
            raise ValueError(f"{split}: column row holds {found}, not rows counted from 0")
    return numbers, False


def _by_row(numbers: _Arrays, votes: _Votes, counted: bool) -> _Arrays:
    """Votes (N, 10) of each split's rows; ValueError for a row without votes of its split."""
    rule = f"row i of fer2013.csv has the votes in row i of {votes.name}"
    sizes = {split: len(found) for split, found in numbers.items()}
    if counted and sum(sizes.values()) != len(votes.counts):
        held = {split: int((votes.splits == split).sum()) for split in sizes}
        raise ValueError(
            f"{sum(sizes.values()):,} rows {sizes}, but {len(votes.counts):,} votes {held}; {rule}."
            " Where rows were left out, a column row must tell the numbers of the others"
        )
    for split, found in numbers.items():
        if found.max(initial=-1) >= len(votes.counts):
            raise ValueError(f"row {found.max():,} (from 0) of {split} is beyond the last; {rule}")
        wrong = found[votes.splits[found] != split]
        if len(wrong):
            raise ValueError(
                f"row {wrong[0]:,} (from 0) is in {split}, but its votes are for "
                f"{votes.splits[wrong[0]]}; {rule}"
            )
    return {split: votes.counts[found] for split, found in numbers.items()}


def _by_name(numbers: _Arrays, votes: _Votes, counted: bool) -> _Arrays:
    """Votes (N, 10) of the pictures with these numbers; what has no name has no face."""
    rows, last = sum(map(len, numbers.values())), votes.numbers.max()
    if counted and rows <= last:
        raise ValueError(f"{rows:,} rows, but {votes.name} names picture {last:,} (from 0)")
    counts = np.tile(_NO_FACE, (last + 2, 1))
    named = votes.numbers >= 0
    counts[votes.numbers[named]] = votes.counts[named]
    return {split: counts[np.minimum(found, last + 1)] for split, found in numbers.items()}


def _agreeing(
    splits: DatasetDict, numbers: _Arrays, counts: _Arrays
) -> tuple[np.ndarray, np.ndarray] | None:
    """Whether label and majority name the same expression (N,), and the rows (N,) in the file, of
    the faces with a majority, in the order of the file; None for classes that FER+ lacks."""
    same, places = [], []
    for split, found in numbers.items():
        kind = splits[split].features.get("label")
        names = [canonical(n) for n in kind.names or ()] if isinstance(kind, ClassLabel) else ["?"]
        if not set(names) <= set(FERPLUS_NAMES):
            return None
        label_of = [names.index(n) if n in names else -2 for n in FERPLUS_NAMES]
        chosen = np.array([*label_of, -2])[_majority(counts[split])]
        order = found.argsort(kind="stable")  # shuffled faces still have neighbours in the file
        order = order[chosen[order] >= 0]
        same.append((chosen == np.array(splits[split]["label"][:]))[order])
        places.append(found[order])
    return np.concatenate(same), np.concatenate(places)


def _check_agreement(
    splits: DatasetDict, numbers: _Arrays, counts: _Arrays, votes: _Votes, sure: bool
) -> None:
    """ValueError where a hundred faces in a row plainly have the votes of other faces.

    Cannot be checked: fewer faces than that, classes that FER+ does not know, and a selection (of
    the faces labelled fear, only 14 % agree with their own votes). With `sure` these are a
    ValueError too; else they pass.
    """
    total = sum(map(len, counts.values()))
    agreeing = _agreeing(splits, numbers, counts)
    if agreeing is None or total < 0.9 * len(votes.counts) or len(agreeing[0]) < _BLOCK:
        if sure:
            why = "classes that FER+ lacks" if agreeing is None else f"{total:,} faces"
            raise ValueError(
                f"whether the votes of {votes.name} ({len(votes.counts):,} rows) belong to these "
                f"faces cannot be checked with {why}; all of FER2013's faces are needed, in the "
                'order of fer2013.csv. A program that knows the order says join_votes(..., by="row"'
                ' or "name")'
            )
        return
    agree, rows = agreeing
    for block in np.array_split(np.arange(len(agree)), len(agree) // _BLOCK):
        if (share := agree[block].mean()) < _AGREE:
            raise ValueError(
                f"the votes of {votes.name} belong to other faces: of {len(block)} faces in rows "
                f"{rows[block[0]]:,} to {rows[block[-1]]:,}, label and majority name the same "
                f"expression for {share:.0%} (in the right order about two in three). Rows were "
                'shuffled, sorted or lost before they were numbered; join_votes(..., by="name") '
                "fits faces in the order of FER+'s picture names"
            )


def _joined(
    splits: DatasetDict, votes: _Votes, by: Literal["row", "name", "either"]
) -> tuple[_Arrays, _Arrays]:
    """(row numbers, votes (N, 10)) of each split, joined and checked."""
    numbers, counted = _row_numbers(splits)
    refused = []
    for way in ("name", "row") if by == "either" else (by,):
        try:
            counts = (_by_row if way == "row" else _by_name)(numbers, votes, counted)
            _check_agreement(splits, numbers, counts, votes, sure=by == "either")
            return numbers, counts
        except ValueError as error:
            if by != "either":
                raise
            refused.append(f"by {way}: {error}")
    raise ValueError(f"the votes of {votes.name} fit neither way. {'. '.join(refused)}")


def _lists(counts: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(counts.ravel()), counts.shape[1])


def join_votes(
    splits: DatasetDict, path: str | Path, *, by: Literal["row", "name", "either"] = "row"
) -> DatasetDict:
    """Add `votes`, ten counts a face in the order of VOTE_NAMES, from FER+'s `fer2013new.csv`.

    Where all splits have a column `row`, it holds each face's row in fer2013.csv, from 0 over all
    Usages: rows may be left out, or stand in any order. Otherwise rows are counted through train,
    validation and test, one after the other, and none may be missing.
    by="row": row i has the votes in row i of the file, as in Kaggle's CSV.
    by="name": row i is the picture that FER+ calls fer<i>.png. These numbers fall behind the rows
    where FER+ skipped what is no face; rows without votes get ten for NF.
    by="either": the way in which majority and label agree. For data whose order is not known, such
    as copies of FER2013 on a hub: where that cannot be checked, nothing is joined.
    Raises FileNotFoundError without the file; ValueError where the numbers of rows differ, splits
    and Usage do not match (by="row"), or majority and label disagree so often that the votes must
    be for other faces.
    """
    if set(splits) != set(SPLITS):
        raise ValueError(f"votes join to {list(SPLITS)}; found the splits {list(splits)}")
    if by not in ("row", "name", "either"):
        raise ValueError(f'by={by!r} is neither "row" nor "name" nor "either"')
    _, counts = _joined(splits, _read_votes(path), by)
    return DatasetDict(
        {
            split: with_column(rows, arrow_table(rows), "votes", _lists(counts[split]), _VOTES)
            for split, rows in splits.items()
        }
    )


def _majority(counts: np.ndarray) -> np.ndarray:
    """Votes (N, 10) → index into FERPLUS_NAMES (N,), -1 where no expression has the majority."""
    sure = np.where(counts > 1, counts, 0).astype(np.int64)  # a single vote counts as an outlier
    top = sure.argmax(axis=1)
    clear = (2 * sure.max(axis=1) > sure.sum(axis=1)) & (top < len(FERPLUS_NAMES))
    return np.where(clear, top, -1)


def majority(splits: DatasetDict) -> DatasetDict:
    """FER+'s majority rule: the faces on which the crowd agrees, labelled by it.

    Single votes are set to 0; a face is kept if more than half of the other votes, those for
    unknown and NF included, go to one of eight expressions: 25,060 / 3,199 / 3,153 of FER2013.
    `label` becomes a ClassLabel of FERPLUS_NAMES; `info.description` gains a line that says how
    many were kept. Raises ValueError without a column `votes`, or where a split keeps no face.
    """
    chosen = DatasetDict()
    for split, rows in splits.items():
        if "votes" not in rows.column_names:
            raise ValueError(f"{split} has no column votes; join_votes(splits, path) adds it")
        table = arrow_table(rows)
        top = _majority(np.array(table["votes"].to_pylist()).reshape(-1, len(VOTE_NAMES)))
        keep = top >= 0
        if not keep.any():
            raise ValueError(f"{split}: on none of {len(rows)} faces the votes have a majority")
        kind = ClassLabel(names=list(FERPLUS_NAMES))
        labels = pa.array(top[keep], pa.int64())
        chosen[split] = with_column(rows, table.filter(pa.array(keep)), "label", labels, kind)
        line = f"FER+ majority: {keep.sum():,} of {len(rows):,} {split} rows kept"
        chosen[split].info.description = f"{rows.info.description or ''}\n{line}".strip()
    return chosen
