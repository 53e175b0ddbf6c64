"""What stored answers can tell: who is right about which faces, and what a difference is worth.

Why: `Expression_evidence.ipynb` asks what accuracies mean. Nearly all of its figures follow from
probabilities that results/ keeps face by face, so nothing is trained and no picture is needed. Here
are the small functions that its cells call: answers by class name, the crowd's majority, class
priors, and how many faces or seeds a difference needs.
Sources: the sample size of McNemar's test, Connor 1987 (doi 10.2307/2531961); priors of new data
without labels, Saerens et al. 2002 (doi 10.1162/089976602753284446). Written for this project.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import nct, norm
from scipy.stats import t as student

from lab.calibration import logits_of
from lab.class_names import canonical
from lab.provenance import on_cpu, totals
from lab.results import Result, Results

__all__ = [
    "FaceAnswers",
    "best_of",
    "crowd_majority",
    "duplicate_gap",
    "estimate_prior",
    "faces_for_difference",
    "half_width",
    "mean_recall",
    "recall_difference",
    "same_class_mix",
    "seeds_for_difference",
    "shares",
    "shift_prior",
    "stored_answers",
    "training_minutes",
    "trial_differences",
    "trial_intervals",
]

OUTSIDE = "contempt"  # FER+'s eighth class, which the networks here do not know
POWER, ALPHA = 0.8, 0.05  # the usual ones: found four times in five, a false alarm one in twenty


@dataclass(frozen=True, eq=False)
class FaceAnswers:
    """What one network answered for one split, with classes as words."""

    name: str
    class_names: tuple[str, ...]
    labels: np.ndarray  # (n,) str
    preds: np.ndarray  # (n,) str
    probabilities: np.ndarray  # (n, num_classes) float64
    in_train: np.ndarray  # (n,) bool: the same picture is in the training split too
    rows: np.ndarray  # (n,) places in the split

    @classmethod
    def of(cls, name: str, result: Result) -> "FaceAnswers":
        """Raises ValueError for a result that was kept without its probabilities."""
        if (kept := result.answers) is None:
            raise ValueError(f"{result.path} was kept without answers face by face")
        names = tuple(canonical(word) for word in result.evaluation.class_names)
        words = np.array(names)
        probs = kept.probabilities.astype(np.float64)
        return cls(
            name, names, words[kept.labels], words[kept.probabilities.argmax(1)],
            probs / probs.sum(1, keepdims=True), kept.in_train, kept.rows,
        )  # fmt: skip

    @property
    def right(self) -> np.ndarray:
        """bool (n,): which faces are named as they are labelled."""
        return self.preds == self.labels

    def count(self, chosen: np.ndarray, truth: np.ndarray | None = None) -> tuple[int, int]:
        """(k, n): right answers of the chosen faces, by the labels or by another `truth` (n,)."""
        right = self.right if truth is None else self.preds == truth
        return int(right[chosen].sum()), int(chosen.sum())

    def named(self, probabilities: np.ndarray) -> np.ndarray:
        """Answers (n,) in words that other probabilities (n, num_classes) of these faces give."""
        return np.array(self.class_names)[probabilities.argmax(1)]

    def known(self) -> tuple[np.ndarray, np.ndarray]:
        """(probabilities, labels as indices) of the faces that are not in train and whose class
        the network knows: one with the label contempt is left out, and so is its column."""
        own = [name for name in self.class_names if name != OUTSIDE]
        chosen = ~self.in_train & np.isin(self.labels, own)
        labels = np.array([own.index(name) for name in self.labels[chosen]])
        return self.probabilities[chosen][:, [self.class_names.index(n) for n in own]], labels


def stored_answers(
    kept: Results, data: str, split: str = "validation", views: str = "plain"
) -> dict[str, FaceAnswers]:
    """{network: answers} of all results that were kept face by face.

    Raises ValueError where two of them have one name: of the network, and of the data.
    """
    told = [
        (network.name, result)
        for network, results in kept.networks()
        for result in results
        if (result.data, result.key.split, result.key.views) == (data, split, views)
        and result.answers is not None
    ]
    found: dict[str, Result] = {}
    for name, result in told:
        if name in found:
            raise ValueError(
                f"{found[name].path} and {result.path} are both answers of {name} on {data}; "
                "one of them has to go to another folder of results"
            )
        found[name] = result
    return {name: FaceAnswers.of(name, result) for name, result in found.items()}


def crowd_majority(kept: Results, data: str, split: str = "validation") -> np.ndarray:
    """The crowd's majority (n,) by FER+'s rule, in words; "" where there is none.

    It stands in results/ as the labels of DATA-majority: no file of votes is needed.
    Raises ValueError where no network was measured on it, or where two tell another majority.
    """
    whole, told = stored_answers(kept, data, split), stored_answers(kept, f"{data}-majority", split)
    if not told:
        raise ValueError(f"no answers for {data}-majority, {split}, in {kept.folder}")
    found: np.ndarray | None = None
    for name, answers in told.items():
        words = np.full(len(whole[name].labels), "", dtype="<U16")
        words[answers.rows] = answers.labels
        if found is not None and not (found == words).all():
            raise ValueError(f"{name} was measured on another majority than the networks before it")
        found = words
    assert found is not None
    return found


def duplicate_gap(answers: FaceAnswers) -> tuple[float, float, float, float]:
    """In points: accuracy on all faces; on those that are not in train; by how much the others are
    better; and the same if the others had the class shares of the unseen ones."""
    right, seen = answers.right, answers.in_train
    unseen = 100 * float(right[~seen].mean())
    alike = same_class_mix(right[seen], answers.labels[seen], answers.labels[~seen])
    return (100 * float(right.mean()), unseen, 100 * float(right[seen].mean()) - unseen,
            100 * alike - unseen)  # fmt: skip


# --- class shares ---


def mean_recall(labels: np.ndarray, preds: np.ndarray, without: Sequence[str] = ()) -> float:
    """The mean of the classes' recalls, each class counting the same, of (n,) words."""
    names = [name for name in np.unique(labels) if name not in without]
    return float(np.mean([(preds == name)[labels == name].mean() for name in names]))


def recall_difference(
    labels: np.ndarray, ours: np.ndarray, theirs: np.ndarray, without: Sequence[str] = ()
) -> tuple[float, float, float]:
    """(difference, low, high): our mean recall less theirs, both answers (n,) in words.

    The 95 % interval is a paired bootstrap over the faces of each class, 2,000 draws, seed 0.
    """
    rng, draws = np.random.default_rng(0), []
    for name in np.unique(labels):
        if name in without:
            continue
        gain = ((ours == name).astype(int) - (theirs == name))[labels == name]
        draws.append(gain[rng.integers(0, len(gain), (2000, len(gain)))].mean(1))
    low, high = np.percentile(np.mean(draws, axis=0), [2.5, 97.5])
    found = mean_recall(labels, ours, without) - mean_recall(labels, theirs, without)
    return found, float(low), float(high)


def same_class_mix(right: np.ndarray, labels: np.ndarray, like: np.ndarray) -> float:
    """Accuracy of `right` (n,) bool if its classes had the shares of the labels `like` (m,).

    Two groups of faces may differ because one has more of the easy classes. Raises ValueError for
    a class in `like` without a face among `labels`.
    """
    names, counts = np.unique(like, return_counts=True)
    if missing := [name for name in names if not (labels == name).any()]:
        raise ValueError(f"no face of {', '.join(missing)} among the {len(labels)} labels")
    recalls = [right[labels == name].mean() for name in names]
    return float(np.average(recalls, weights=counts))


def shift_prior(probabilities: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Probabilities (n, C) learnt with class shares `before` (C,) → those for shares `after` (C,).

    Bayes' rule: right if only the shares of the classes differ, not how a class looks.
    """
    weights = np.asarray(after, np.float64) / np.asarray(before, np.float64)
    shifted = np.exp(logits_of(probabilities)) * weights
    return shifted / shifted.sum(1, keepdims=True)


def estimate_prior(probabilities: np.ndarray, before: np.ndarray, steps: int = 200) -> np.ndarray:
    """Class shares (C,) of unlabelled faces by expectation–maximisation (Saerens et al. 2002)."""
    found = np.asarray(before, np.float64)
    for _ in range(steps):
        found = shift_prior(probabilities, before, found).mean(0)
    return found


# --- what a difference is worth ---


def faces_for_difference(difference: float, discordant: float) -> int:
    """Faces that a paired comparison of two networks needs to find this difference of accuracy.

    `discordant` is the share of faces that one of the two alone answers rightly, both in (0, 1].
    McNemar's test, two-sided at 5 %, found with probability 0.8 (Connor 1987). Raises ValueError
    unless 0 < difference <= discordant: two networks cannot differ by more than they disagree.
    """
    if not 0 < difference <= discordant <= 1:
        raise ValueError(f"difference {difference} and discordant share {discordant} do not fit")
    wide = norm.isf(ALPHA / 2) * math.sqrt(discordant)
    narrow = norm.ppf(POWER) * math.sqrt(discordant - difference**2)
    return math.ceil(((wide + narrow) / difference) ** 2)


def half_width(sd: float, seeds: int) -> float:
    """Half of the 95 % t interval of the mean of runs with standard deviation `sd`; infinite for
    one run, which says nothing about its spread."""
    if seeds < 2:
        return math.inf
    return float(student.isf(ALPHA / 2, seeds - 1) * sd / math.sqrt(seeds))


def seeds_for_difference(difference: float, sd: float, most: int = 10_000) -> int:
    """Pairs of runs that a paired t test needs to find this mean difference, with probability 0.8.

    `sd` is the standard deviation of the difference from pair to pair, in the same unit. Raises
    ValueError for what is not positive, and where more than `most` pairs are needed.
    """
    if difference <= 0 or sd <= 0:
        raise ValueError(f"difference {difference} and sd {sd} must be above 0")
    for seeds in range(2, most + 1):
        bound, shift = student.isf(ALPHA / 2, seeds - 1), difference * math.sqrt(seeds) / sd
        if nct.sf(bound, seeds - 1, shift) >= POWER:
            return seeds
    raise ValueError(f"more than {most} pairs are needed for {difference} with an sd of {sd}")


def best_of(
    candidates: int, faces: int, accuracy: float, discordant: float, rounds: int = 2000
) -> np.ndarray:
    """Accuracies (rounds,) of the best of equally good candidates: luck alone, nothing learnt.

    Each candidate answers a face rightly with probability `accuracy`; any two of them disagree on
    `discordant` of the faces. Normal approximation with a common part, seed 0. Raises ValueError
    where independent candidates would disagree less than that.
    """
    variance = accuracy * (1 - accuracy)
    if not 0 <= discordant <= 2 * variance:
        raise ValueError(f"candidates with accuracy {accuracy} cannot disagree on {discordant}")
    draw = np.random.default_rng(0)
    common = draw.normal(0, math.sqrt((variance - discordant / 2) / faces), rounds)
    own = draw.normal(0, math.sqrt(discordant / 2 / faces), (rounds, candidates))
    return np.asarray(accuracy + common + own.max(1))


def shares(counts: Mapping[str, int], class_names: Sequence[str]) -> np.ndarray:
    """Class shares (C,) in the order of `class_names`."""
    found = np.array([counts[name] for name in class_names], np.float64)
    return found / found.sum()


# --- other records ---


def trial_differences(
    trials: Mapping[str, Any], answer: str = "combined", measure: str = "accuracy"
) -> dict[str, tuple[float, float | None, float | None]]:
    """{title: (mean, low, high)} in points, of benchmarks/trials.json, the best first; None for
    the ends where one pair of runs gives no interval."""
    found: dict[str, tuple[float, float | None, float | None]] = {}
    for name, arm in trials["arms"].items():
        told = arm["answers"].get(answer, {}).get(measure)
        if name != "base" and told:
            low, high = (100 * e for e in told["interval_95"]) if "sd" in told else (None, None)
            found[trials["settings"]["arms"][name]["title"]] = 100 * told["mean"], low, high
    return dict(sorted(found.items(), key=lambda row: -row[1][0]))


def trial_intervals(trials: Mapping[str, Any]) -> list[tuple[float, float]]:
    """All intervals of differences in benchmarks/trials.json, whatever was measured."""
    return [
        (measure["interval_95"][0], measure["interval_95"][1])
        for name, arm in trials["arms"].items() if name != "base"
        for head in arm["answers"].values()
        for measure in head.values() if "interval_95" in measure
    ]  # fmt: skip


def training_minutes(kept: Results, data: str = "fer2013") -> dict[str, tuple[float, bool]]:
    """{network: (minutes of all its stages, whether other networks taught it)}, of those trained
    here on `data` and on CPUs alone, since a GPU's minutes are other minutes; what its teachers
    took is not in its minutes. Raises ValueError for two such networks of one name."""
    found: dict[str, tuple[float, bool]] = {}
    for network, _ in kept.networks():
        card = network.card
        stages = [*card.get("stages", ()), card]
        if not card.get("minutes") or card["data"]["name"] != data:
            continue
        if all(map(on_cpu, stages)):
            if network.name in found:
                raise ValueError(f"{kept.folder} has two networks called {network.name}")
            taught = bool(card.get("recipe", {}).get("teacher") or card.get("stages"))
            found[network.name] = totals(card)[0], taught or "teacher" in card["command"]
    return found
