"""Does a network's confidence mean what it says, and below which confidence is it "not sure"?

Why: a network that says 0.9 should be right nine times in ten. One number, the temperature that its
logits are divided by, brings confidence near that and changes no answer. Then a confidence can be
chosen below which an answer is better not given. Both are fitted on validation and go into the
checkpoint's card. Here are plain functions on arrays; `calibrate` puts them together.
Sources: temperature scaling and the expected calibration error with 15 bins of equal width, Guo et
al. 2017 (arXiv:1706.04599), the error after Naeini et al. 2015; risk and coverage, Geifman and
El-Yaniv 2017 (arXiv:1705.08500). The minimum and the softmax are SciPy's.
Needs numpy and SciPy; copy freely (MIT, see LICENSE).
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

__all__ = [
    "Bins",
    "Calibration",
    "Threshold",
    "calibrate",
    "choose_threshold",
    "default_risk",
    "expected_calibration_error",
    "fit_temperature",
    "logits_of",
    "mean_loss",
    "reliability_bins",
    "risk_coverage",
]

BINS = 15
LEAST_PROBABILITY = 1e-7  # its logarithm must be a number
TEMPERATURES = (0.05, 20.0)  # searched between these

# Share of mistakes among the answers given that is allowed, by what is taken for the truth. One
# label is itself wrong about one time in five: where eight or more of FER+'s ten voters agree, 18 %
# of FER2013's training labels name another expression. Fewer mistakes than that against such labels
# would be agreement with their errors. A crowd's majority is worth a stricter rule.
RISKS = {"label": 0.20, "majority": 0.10}
FEWEST_FACES = 200  # with fewer, the share of mistakes is uncertain by 3 points and more (1 sd)
FEWEST_ANSWERED = 50  # a threshold that leaves fewer reaches any risk by chance
STEPS = 1000  # thresholds are multiples of 1/STEPS, so that a card holds exactly what was measured


class Bins(NamedTuple):
    """Faces by confidence, in bins of equal width; empty bins have confidence and accuracy NaN."""

    counts: np.ndarray  # (bins,) int
    confidence: np.ndarray  # (bins,) mean of the bin's faces
    accuracy: np.ndarray  # (bins,) share of right answers

    @property
    def error(self) -> float:
        """The expected calibration error: mean of |accuracy − confidence|, weighted by faces."""
        filled = self.counts > 0
        gaps = np.abs(self.accuracy - self.confidence)[filled]
        return float((self.counts[filled] * gaps).sum() / self.counts.sum())


class Threshold(NamedTuple):
    """Answers with at least `min_confidence`: how many there are, and how many are wrong."""

    min_confidence: float
    answered: int
    mistakes: int


def default_risk(truth: str) -> float:
    """Share of mistakes allowed where the truth is one "label", or a crowd's "majority"."""
    return RISKS[truth]


def logits_of(probabilities: np.ndarray) -> np.ndarray:
    """Logits (N, classes) float64 that give these probabilities, also ones stored as float16."""
    return np.log(np.asarray(probabilities, np.float64).clip(LEAST_PROBABILITY))


def mean_loss(logits: np.ndarray, targets: np.ndarray, temperature: float = 1.0) -> float:
    """Negative log-likelihood in nats per face, of logits (N, classes) over `temperature`.

    `targets` are labels (N,) or shares of votes (N, classes); faces whose shares are all zero
    do not count.
    """
    told = log_softmax(np.asarray(logits, np.float64) / temperature, axis=1)
    targets = np.asarray(targets)
    if targets.ndim == 1:
        return float(-told[np.arange(len(told)), targets].mean())
    return float(-(targets * told).sum() / targets.sum())


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """The temperature with the lowest `mean_loss`, to four decimals; above 1: over-confident.

    Dividing all logits of a face by one number changes no answer. The loss is convex in 1 over
    the temperature, so there is one minimum; it is looked for between 0.05 and 20.
    Raises ValueError without faces, or where shapes do not fit.
    """
    logits, targets = np.asarray(logits, np.float64), np.asarray(targets)
    fitting = ((len(logits),), logits.shape)
    if not len(logits) or targets.shape not in fitting:
        raise ValueError(f"logits {logits.shape} and targets {targets.shape} do not fit together")
    low, high = map(math.log, TEMPERATURES)
    found = minimize_scalar(
        lambda log_t: mean_loss(logits, targets, math.exp(log_t)),
        bounds=(low, high), method="bounded", options={"xatol": 1e-6},
    )  # fmt: skip
    return round(math.exp(found.x), 4)


def answers(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(confidence, right): the top probability (N,) float64 and whether its class is the label."""
    probs = np.asarray(probabilities, np.float64)
    return probs.max(1), probs.argmax(1) == np.asarray(labels)


def reliability_bins(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Bins:
    """Faces by the confidence of their answer, bin i from i/bins (not included) to (i+1)/bins.

    Raises ValueError without faces.
    """
    confidence, right = answers(probabilities, labels)
    if not len(confidence):
        raise ValueError("no faces: there is no confidence to compare")
    place = np.ceil(confidence * bins).astype(int).clip(1, bins) - 1
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = (np.bincount(place, values, bins) / counts for values in (confidence, right))
        return Bins(counts, *means)


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS
) -> float:
    """How far confidence is from accuracy, in [0, 1], see `Bins.error`."""
    return reliability_bins(probabilities, labels, bins).error


def risk_coverage(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(coverage, risk), both (N,): share of faces answered when only the k surest are, and the
    share of mistakes among them, for k = 1 … N."""
    confidence, right = answers(probabilities, labels)
    order = np.argsort(-confidence, kind="stable")
    counts = np.arange(1, len(order) + 1)
    return counts / len(order), np.cumsum(~right[order]) / counts


def choose_threshold(
    probabilities: np.ndarray, labels: np.ndarray, risk: float
) -> Threshold | None:
    """The smallest threshold with at most `risk` mistakes among the answers of that confidence.

    Thresholds are 0, 0.001, … 0.999. None where no threshold reaches the risk with
    FEWEST_ANSWERED answers or more. Raises ValueError for a risk outside (0, 1).
    """
    if not 0 < risk < 1:
        raise ValueError(f"risk is {risk}; it is a share of mistakes between 0 and 1")
    confidence, right = answers(probabilities, labels)
    order = np.argsort(confidence)
    confidence, right = confidence[order], right[order]
    right_above = np.append(np.cumsum(right[::-1])[::-1], 0)  # of the faces from each place on
    steps = np.arange(STEPS) / STEPS
    places = np.searchsorted(confidence, steps, side="left")
    answered = len(confidence) - places
    mistakes = answered - right_above[places]
    reached = (mistakes <= risk * answered) & (answered >= FEWEST_ANSWERED)
    if not reached.any():
        return None
    first = int(reached.argmax())
    return Threshold(float(steps[first]), int(answered[first]), int(mistakes[first]))


@dataclass(frozen=True)
class Calibration:
    """What was fitted, on which faces, and what it is worth there."""

    data: str
    split: str
    truth: str  # "label", or "majority" of a crowd's votes
    n: int  # faces for which there is this truth
    risk: float
    temperature: float = 1.0
    min_confidence: float = 0.0
    answered: int = 0  # faces with at least that confidence
    mistakes: int = 0  # among them
    ece: tuple[float, float] | None = None  # before and after the temperature, in [0, 1]
    loss: tuple[float, float] | None = None  # the same in nats per face
    note: str = ""

    def for_card(self) -> dict[str, Any]:
        """The keys of a checkpoint's card: temperature, min_confidence, calibration."""
        told: dict[str, Any] = {"data": self.data, "split": self.split, "truth": self.truth,
                                "n": self.n, "temperature": self.temperature}  # fmt: skip
        for name, pair in (("ece", self.ece), ("loss", self.loss)):
            if pair:
                told |= {f"{name}_before": round(pair[0], 5), f"{name}_after": round(pair[1], 5)}
        told |= {"risk": self.risk, "min_confidence": self.min_confidence}
        if self.ece:
            told |= {"answered": self.answered, "mistakes": self.mistakes,
                     "coverage": round(self.answered / self.n, 5)}  # fmt: skip
        if self.note:
            told["note"] = self.note
        return {"temperature": self.temperature, "min_confidence": self.min_confidence,
                "calibration": told}  # fmt: skip


def calibrate(
    logits: np.ndarray,
    labels: np.ndarray,
    *,
    data: str,
    truth: str,
    split: str = "validation",
    risk: float | None = None,
) -> Calibration:
    """Temperature and threshold of logits (N, classes) for labels (N,); −1 where there is none.

    `truth` says what the labels are, "label" or "majority"; `risk` None is `default_risk(truth)`.
    With fewer than FEWEST_FACES labelled faces the temperature stays 1, every face is answered,
    and `note` says so; it also says where no threshold reaches the risk.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    known = labels >= 0
    logits, labels = logits[known], labels[known]
    risk = default_risk(truth) if risk is None else risk
    told = Calibration(data, split, truth, len(labels), risk)
    if len(labels) < FEWEST_FACES:
        return replace(told, note=f"not fitted: {len(labels)} faces are fewer than {FEWEST_FACES}")
    temperature = fit_temperature(logits, labels)
    before, after = softmax(logits, axis=1), softmax(logits / temperature, axis=1)
    note, chosen = "", choose_threshold(after, labels, risk)
    if chosen is None:
        _, right = answers(after, labels)
        chosen = Threshold(0.0, len(labels), int((~right).sum()))
        note = (
            f"no threshold has at most {100 * risk:.0f} % mistakes among "
            f"{FEWEST_ANSWERED} answers or more; every face is answered"
        )
    return replace(
        told, temperature=temperature, note=note, min_confidence=chosen.min_confidence,
        answered=chosen.answered, mistakes=chosen.mistakes,
        ece=(expected_calibration_error(before, labels), expected_calibration_error(after, labels)),
        loss=(mean_loss(logits, labels), mean_loss(logits, labels, temperature)),
    )  # fmt: skip
