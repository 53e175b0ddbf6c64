"""Is one network better than another? Both answered the same faces, so faces are compared in pairs.

Why: two accuracies of 3,589 faces each have intervals of 3 points, which overlap nearly always. But
most faces are answered right or wrong by both networks; only the others tell the two apart.
Source: McNemar (1947) in its exact form, a binomial test by SciPy; Efron's bootstrap, drawn here
over seeds and faces at once, which `scipy.stats.bootstrap` does not do.
Needs numpy and SciPy.
"""

from typing import Any

import numpy as np
from scipy.stats import binomtest

__all__ = ["bootstrap_difference", "mcnemar"]

ROUNDS = 10_000


def mcnemar(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """McNemar's exact test of two networks on the same faces.

    `ours` and `theirs` (n,) bool tell which faces each answers right. Returns how many faces each
    alone answers right, and p, two-sided: how likely so uneven a division is for equal networks.
    Raises ValueError where the two are not of the same faces.
    """
    if ours.shape != theirs.shape or ours.ndim != 1:
        raise ValueError(f"answers {ours.shape} and {theirs.shape} are not of the same faces")
    ours_alone, theirs_alone = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    discordant = ours_alone + theirs_alone
    p = float(binomtest(ours_alone, discordant).pvalue) if discordant else 1.0
    return {"ours_alone": ours_alone, "theirs_alone": theirs_alone, "p": p}


def bootstrap_difference(
    ours: np.ndarray, theirs: np.ndarray, rounds: int = ROUNDS, seed: int = 0
) -> dict[str, Any]:
    """Mean difference of accuracy, ours - theirs, in [-1, 1], and its 95 % percentile interval.

    `ours` (S, n) and `theirs` (T, n) bool: a row for each seed of a network, the same faces in
    both. Every round draws seeds of each network and faces anew, with replacement. A face that is
    drawn counts for both networks; seeds are drawn for each alone, since seed 0 of one network has
    nothing to do with seed 0 of another. With few seeds the interval is somewhat too narrow.
    Raises ValueError where the two are not of the same faces.
    """
    if ours.ndim != 2 or theirs.ndim != 2 or ours.shape[1] != theirs.shape[1]:
        raise ValueError(f"answers {ours.shape} and {theirs.shape} are not of the same faces")
    rng, faces = np.random.default_rng(seed), ours.shape[1]
    found = np.empty(rounds)
    for number in range(rounds):
        difference = drawn_mean(ours, rng) - drawn_mean(theirs, rng)  # (n,)
        found[number] = difference[rng.integers(faces, size=faces)].mean()
    low, high = np.quantile(found, (0.025, 0.975))
    return {"mean": float(ours.mean() - theirs.mean()), "interval_95": [float(low), float(high)]}


def drawn_mean(answers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Share of right answers (n,) to each face among seeds drawn from the rows of (S, n)."""
    if len(answers) == 1:
        return answers[0].astype(float)
    return answers[rng.integers(len(answers), size=len(answers))].mean(0)
