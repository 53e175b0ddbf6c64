"""Calibration of what the laboratory measures: the truth of a face, and stored results."""

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from lab.calibration import expected_calibration_error, logits_of
from lab.data import Faces
from lab.results import Result
from lab.votes import known_majority

__all__ = ["calibration_errors", "scaled_probabilities", "validation_truth"]


def validation_truth(faces: Faces, rows: Tensor, crowd: bool) -> tuple[Tensor, str]:
    """(class indices (n,) of validation's `rows`, −1 where there is no truth; the truth's name).

    With `crowd`, and where the data have votes, the truth is their "majority", else the "label".
    A face that stands in train too, pixel for pixel, has −1: a network is surer and more often
    right on faces that it has learnt, and would promise that for others.
    """
    rows, counts = rows.cpu(), faces.vote_counts("validation") if crowd else None
    if counts is None:
        truth, name = faces.labels("validation").clone(), "label"
    else:
        truth, name = known_majority(*counts, faces.class_names), "majority"
    truth[torch.from_numpy(faces.in_train["validation"])] = -1
    return truth[rows], name


def scaled_probabilities(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Stored probabilities (n, classes), which carry no temperature → the same with it, float64."""
    return softmax(logits_of(probabilities) / temperature, axis=1)


def calibration_errors(
    result: Result, temperature: float, truth: np.ndarray | None = None
) -> tuple[float, float] | None:
    """(before, after): the expected calibration error of a result's answers as the network gives
    them, and with the temperature of its card; both in [0, 1].

    `truth` (n,) are other classes than the result's labels, such as a crowd's majority, face by
    face (`result.answers.rows` are their places in the split); faces with −1 do not count.
    None for a result that was kept without its probabilities.
    """
    if (told := result.answers) is None:
        return None
    labels = np.asarray(told.labels if truth is None else truth, np.int64)
    known = labels >= 0
    probs, labels = told.probabilities[known], labels[known]
    after = scaled_probabilities(probs, temperature)
    return expected_calibration_error(probs, labels), expected_calibration_error(after, labels)
