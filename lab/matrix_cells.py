"""The cells of the cross-data matrix, from results/ alone: which rows, which columns, what figures.

`lab.matrix` measures them, `lab.matrix_page` writes and draws them.
"""

from dataclasses import dataclass, field
from functools import cached_property
from statistics import mean

import numpy as np

from lab.calibration_data import calibration_errors
from lab.data_notes import DataNotes
from lab.metrics import Evaluation, percent
from lab.provenance import ancestors
from lab.results import MeasuredNetwork, Result, Results

__all__ = ["OUTSIDE", "Cell", "Column", "Matrix", "MatrixRow", "read"]

KINDS = ("network", "peer", "people")  # in the order of the tables
OUTSIDE = "contempt"  # FER+'s eighth class, which most networks do not know
DRAWS = 4000  # for the interval of a mean recall


@dataclass(frozen=True)
class Column:
    """One data set under one rule of counting."""

    notes: DataNotes
    heading: str
    without: tuple[str, ...] = ()  # faces of these classes do not count
    unseen: bool = False  # nor do those that the row's network trained on


@dataclass(frozen=True, eq=False)
class Cell:
    """What one row reaches in one column."""

    told: Evaluation
    interval: tuple[float, float] | None = None  # of the accuracy, where it is not Wilson's

    @property
    def accuracy(self) -> str:
        """'2509/3589 = 69.9 % (68.4–71.4)'."""
        if self.interval is None:
            return percent(self.told.k, self.told.n)
        low, high = (100 * bound for bound in self.interval)
        k, n = self.told.k, self.told.n
        return f"{k}/{n} = {100 * k / n:.1f} % ({low:.1f}–{high:.1f})"

    @cached_property
    def recalls(self) -> dict[str, tuple[int, int]]:
        """(right answers, faces) of each class that has a face."""
        right = self.told.confusion.diagonal().tolist()
        faces = self.told.confusion.sum(1).tolist()
        each = zip(self.told.class_names, right, faces, strict=True)
        return {name: (k, n) for name, k, n in each if n}

    @property
    def mean_recall(self) -> float:
        """The mean of the classes' recalls, each counting the same, in [0, 1]."""
        return mean(k / n for k, n in self.recalls.values())

    @cached_property
    def mean_recall_interval(self) -> tuple[float, float]:
        """A 95 % interval of it: each recall is drawn from its posterior (Jeffreys), seed 0, so
        that a class of three faces, all of them right, is not taken for certain."""
        draw = np.random.default_rng(0)
        each = [draw.beta(k + 0.5, n - k + 0.5, DRAWS) for k, n in self.recalls.values()]
        low, high = np.quantile(np.mean(each, axis=0), (0.025, 0.975))
        return float(low), float(high)


@dataclass(frozen=True, eq=False)
class MatrixRow:
    """A network, a peer or people, and all that was measured of them in one view."""

    network: MeasuredNetwork
    folder: str
    results: dict[tuple[str, str], Result]  # (fingerprint, split) → result
    training: dict[str, str] = field(default_factory=dict)  # fingerprint → name, ancestors' too

    @property
    def kind(self) -> str:
        return self.network.card.get("kind", KINDS[0])

    @property
    def trained_on(self) -> str:
        """What the row learnt from, in words."""
        card = self.network.card
        if told := card.get("trained_on"):
            return str(told)
        names = [card["data"]["name"], *(one["name"] for one in card["data"].get("further", ()))]
        heads = list(card.get("heads", ["label"]))
        told = f"; head{'s' * (len(heads) > 1)} {', '.join(heads)}" if heads != ["label"] else ""
        return " + ".join(names) + told

    def seen(self, result: Result, notes: DataNotes) -> np.ndarray | None:
        """bool (n,): which faces of a result the network trained on; None where it is not known,
        which is so for peers, and for results kept without answers."""
        if self.kind != KINDS[0] or (answers := result.answers) is None:
            return None
        chosen = np.zeros(len(answers.rows), bool)
        home = notes.pictures_of or notes.fingerprint
        for fingerprint in self.training:
            if fingerprint == home:
                chosen |= answers.in_train
            else:
                rows = notes.in_training.get(fingerprint, {}).get(result.key.split, [])
                chosen |= np.isin(answers.rows, rows)
        return chosen

    def cell(self, column: Column, split: str) -> Cell | None:
        """The figures of one column; None where nothing was measured, or none is left."""
        result = self.results.get((column.notes.fingerprint, split))
        if result is None:
            return None
        told = result.evaluation
        confusion, loss = told.confusion.clone(), told.loss
        if column.unseen:
            seen = self.seen(result, column.notes)
            if seen is None or not seen.any() or result.answers is None:
                return None
            confusion, loss = result.answers.confusion(~seen), float("nan")
        for name in column.without:
            if name in told.class_names:
                confusion[told.class_names.index(name)] = 0
                loss = float("nan")
        if not confusion.sum():
            return None
        given = (result.crowd or {}).get("interval_without" if column.without else "interval_95")
        interval = (given[0], given[1]) if given else None
        return Cell(Evaluation(confusion, told.class_names, loss), interval)

    def calibration(self, column: Column, split: str) -> tuple[float, float] | None:
        """Expected calibration error, in [0, 1], as the network answers and with the temperature of
        its card; None where no probabilities are kept, as of people."""
        result = self.results.get((column.notes.fingerprint, split))
        if self.cell(column, split) is None or result is None or result.answers is None:
            return None
        truth = result.answers.labels.astype(np.int64)
        names = result.evaluation.class_names
        truth[np.isin(truth, [k for k, name in enumerate(names) if name in column.without])] = -1
        if column.unseen and (seen := self.seen(result, column.notes)) is not None:
            truth[seen] = -1
        return calibration_errors(result, self.network.card.get("temperature", 1.0), truth)


@dataclass(frozen=True, eq=False)
class Matrix:
    """Rows and the data sets that they were measured on."""

    rows: list[MatrixRow]
    data: list[DataNotes]

    def columns(self, split: str) -> list[Column]:
        """Each data set whole; without the faces that a row trained on, where a row trained on
        some; a crowd's majority under FER+'s rule of eight classes, and of seven."""
        found = []
        for notes in self.data:
            if notes.pictures_of:
                found += [Column(notes, f"{notes.name}, 8 classes"),
                          Column(notes, f"{notes.name}, 7 classes", (OUTSIDE,))]  # fmt: skip
            else:
                found.append(Column(notes, notes.name))
            apart = Column(notes, f"{notes.name}, not trained on", unseen=True)
            if not notes.pictures_of and any(row.cell(apart, split) for row in self.rows):
                found.append(apart)
        return [column for column in found if any(row.cell(column, split) for row in self.rows)]

    def main_columns(self, split: str) -> list[Column]:
        """One column a data set: the one whose classes are told one by one, and drawn."""
        columns = [column for column in self.columns(split) if not column.unseen]
        return [c for c in columns if c.without or not c.notes.pictures_of]

    def rows_of(self, split: str) -> list[MatrixRow]:
        """The rows with a figure of this split."""
        return [row for row in self.rows if any(where == split for _, where in row.results)]


def read(kept: Results) -> Matrix | None:
    """The matrix that results/ hold; None where no network was measured on two data sets."""
    data = list(kept.data_notes().values())
    homes = {notes.fingerprint: notes.pictures_of or notes.fingerprint for notes in data}
    networks = kept.networks()
    known = {network.sha256: network for network, _ in networks}
    rows = []
    for network, results in networks:
        chosen = {
            (result.key.fingerprint, result.key.split): result
            for result in results
            if result.key.views == "plain" and result.key.fingerprint in homes
        }
        row = MatrixRow(network, kept.folder_of(network.name, network.sha256).name, chosen,
                        training_of(network, known))  # fmt: skip
        if len({homes[mark] for mark, _ in chosen}) > 1 or (chosen and row.kind != KINDS[0]):
            rows.append(row)
    rows.sort(key=lambda row: (KINDS.index(row.kind), row.trained_on, row.folder))
    return Matrix(rows, data) if any(row.kind == KINDS[0] for row in rows) else None


def training_of(network: MeasuredNetwork, known: dict[str, MeasuredNetwork]) -> dict[str, str]:
    """Fingerprint → name of all data that a network learnt from, and its teachers and starts."""
    own = network.card.get("data", {})
    told = {one["fingerprint"]: one["name"] for one in (own, *own.get("further", ()))
            if one.get("fingerprint")}  # fmt: skip
    for digest in ancestors(network.card):
        ancestor = known.get(digest)
        if ancestor is not None and ancestor is not network:
            told = training_of(ancestor, known) | told
    return told
