"""Groups of faces that a network may serve unequally: by light, sharpness, size, tilt, agreement.

Why: one accuracy hides where a network fails. The groups here are measured from the picture and by
our own detector, or counted from a crowd's votes; nothing about the person is guessed. What is
measured goes to results/slices-DATA.json, so that the notebook works without the pictures.

    python -m lab.face_slices --data path/to/fer2013 --votes path/to/fer2013new.csv

Only validation faces are measured, and only those that are not in the training split too.
Source: written for this project. Sharpness is the variance of the Laplacian (Pech-Pacheco et al.
2000, doi 10.1109/ICPR.2000.903548), as a share of the variance of the picture.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from scipy.ndimage import laplace
from scipy.stats import chi2_contingency

from expression.face_detector import FaceFinder
from expression.files import atomic_write
from expression.terminal import escape_unprintable
from lab.evidence import FaceAnswers, crowd_majority, stored_answers
from lab.provenance import revision
from lab.results import Results, now

if TYPE_CHECKING:
    from lab.data import Faces

__all__ = [
    "agreement_groups",
    "find_votes",
    "load_faces",
    "measure",
    "measure_pictures",
    "quartiles",
    "read",
    "unequal",
]

SPLIT = "validation"
LEVELS = ((0, 4), (5, 5), (6, 6), (7, 7), (8, 8), (9, 9), (10, 10))  # votes for the first class
FEWEST = 30  # faces; a smaller group has an interval of 30 points and more


def measure_pictures(pictures: Sequence[Image.Image]) -> dict[str, np.ndarray]:
    """{measure: (n,) float64} of gray pictures; NaN for what needs a face where none is found.

    brightness: mean gray, 0 to 255. contrast: its standard deviation. sharpness: variance of the
    Laplacian over the variance of the picture. size: side of the face's box, as a share of the
    picture's. tilt: of the line through the eyes, in degrees from level, 0 and up.
    """
    finder = FaceFinder(smallest=0.3, pixels=0)  # as `expression.face_detector.measure_crop`
    rows = []
    for picture in pictures:
        gray = np.asarray(picture.convert("L"), np.float64)
        variance = max(float(gray.var()), 1e-9)
        faces = finder.find_batch([picture])[0]
        box, tilt = (faces[0].box[2:], abs(faces[0].tilt)) if faces else ((math.nan,) * 2, math.nan)
        size = math.sqrt(box[0] * box[1] / gray.size)
        rows.append((gray.mean(), math.sqrt(variance), laplace(gray).var() / variance, size, tilt))
    names = ("brightness", "contrast", "sharpness", "size", "tilt")
    columns = np.array(rows, np.float64).reshape(-1, len(names)).T
    return dict(zip(names, columns, strict=True))


def quartiles(values: np.ndarray) -> dict[str, np.ndarray]:
    """{"low (… to …)": bool (n,)} for four groups of about the same number of faces, and "no face
    found" for those without a value. Groups of fewer than 30 faces are left out."""
    known = np.isfinite(values)
    if not known.any():
        return {"no face\nfound": ~known} if len(values) >= FEWEST else {}
    edges = np.quantile(values[known], (0, 0.25, 0.5, 0.75, 1))
    place = np.searchsorted(edges[1:4], values, side="left")
    names = ("lowest", "low", "high", "highest")
    digits = 2 if edges[-1] < 10 else 0
    groups = {
        f"{name}\n{low:.{digits}f} to {high:.{digits}f}": known & (place == number)
        for number, (name, low, high) in enumerate(zip(names, edges, edges[1:], strict=False))
    }
    groups["no face\nfound"] = ~known
    return {name: chosen for name, chosen in groups.items() if chosen.sum() >= FEWEST}


def agreement_groups(votes: np.ndarray) -> dict[str, np.ndarray]:
    """{"7 of 10": bool (n,)} by how many of the votes (n, k) the first of the classes has."""
    first = votes.max(1)
    names = [str(high) if low == high else f"{low}–{high}" for low, high in LEVELS]
    return {
        name: (first >= low) & (first <= high)
        for name, (low, high) in zip(names, LEVELS, strict=True)
    }


def counted(
    groups: Mapping[str, np.ndarray], rights: Mapping[str, np.ndarray]
) -> dict[str, dict[str, list[int]]]:
    """{group: {series: [k, n]}}; -1 in `rights` (n,) leaves a face out of that series."""
    told: dict[str, dict[str, list[int]]] = {}
    for group, chosen in groups.items():
        each = {name: right[chosen & (right >= 0)] for name, right in rights.items()}
        told[group] = {name: [int(r.sum()), len(r)] for name, r in each.items() if len(r)}
    return {group: counts for group, counts in told.items() if counts}


def unequal(groups: Mapping[str, Mapping[str, Sequence[int]]], series: str, tests: int) -> float:
    """p of a chi-squared test that all groups have the same share, times `tests` (Bonferroni).

    1 where all answers are right, or all wrong, or there is one group: nothing differs.
    """
    rows = [(k, n - k) for k, n in (counts[series] for counts in groups.values())]
    if len(rows) < 2 or 0 in np.sum(rows, axis=0):
        return 1.0
    return float(min(1.0, tests * chi2_contingency(rows).pvalue))


def measure(faces: "Faces", kept: Results, networks: Sequence[str]) -> dict[str, Any]:
    """What results/slices-DATA.json holds: counts for each group of `faces`, from the stored
    answers of the networks.

    "slices": {measure: {group: {network: [k, n]}}} by quartiles of each measure. With votes also
    "agreement": {votes for the first class: {series: [k, n]}}, where a network's series are right
    answers to the label, "… crowd" to the crowd's majority, and "label" is how often the label is
    that majority.
    """
    told = stored_answers(kept, faces.name, SPLIT)
    answers = {name: told[name] for name in networks}
    for name, each in answers.items():
        if each.labels.tolist() != [faces.class_names[k] for k in faces.labels(SPLIT).tolist()]:
            raise ValueError(f"{name} was measured on faces with other labels than these")
    chosen = np.flatnonzero(~answers[networks[0]].in_train)
    pictures = faces.splits[SPLIT]["image"][:]
    measures = measure_pictures([pictures[row] for row in chosen])
    rights = {name: each.right[chosen].astype(int) for name, each in answers.items()}
    found: dict[str, Any] = {
        "data": {"name": faces.name, "fingerprint": faces.fingerprint}, "split": SPLIT,
        "faces": len(chosen), "of": len(pictures),
        "slices": {name: counted(quartiles(v), rights) for name, v in measures.items()},
    }  # fmt: skip
    if (voted := faces.vote_counts(SPLIT)) is not None:
        groups = agreement_groups(voted[0].numpy()[chosen, :8])  # the eight expressions
        crowd = crowd_majority(kept, faces.name, SPLIT)[chosen]
        found["agreement"] = counted(groups, agreement_series(answers, crowd, chosen))
    return found


def agreement_series(
    answers: Mapping[str, FaceAnswers], crowd: np.ndarray, chosen: np.ndarray
) -> dict[str, np.ndarray]:
    """Right (1), wrong (0), no majority (-1) of the label and of each network's answers."""
    labels = next(iter(answers.values())).labels[chosen]
    series = {"label": np.where(crowd == "", -1, labels == crowd)}
    for name, each in answers.items():
        preds = each.preds[chosen]
        series[name] = (preds == labels).astype(int)
        series[f"{name} crowd"] = np.where(crowd == "", -1, preds == crowd)
    return series


def find_votes(data: str | Path) -> Path | None:
    """FER+'s file: what FERPLUS_VOTES names, or fer2013new.csv in the folder of the data, beside
    it, or in a folder ferplus beside it; None where there is none."""
    if named := os.environ.get("FERPLUS_VOTES", "").strip():
        return Path(named)
    folder = Path(data).resolve()
    places = (folder, folder.parent, folder.parent / "ferplus")
    return next((p / "fer2013new.csv" for p in places if (p / "fer2013new.csv").is_file()), None)


def load_faces(where: str | Path, votes: str | Path | None) -> "Faces":
    """FER2013 with the name that its results have, and with votes where their file is given."""
    from lab import datasets
    from lab.data import Faces

    splits = datasets.load(where, votes=votes, votes_by="either", say=lambda _: None)
    return Faces(splits, "fer2013", datasets.fingerprint(splits))


def read(kept: Results, data: str) -> dict[str, Any]:
    """results/slices-DATA.json. Raises ValueError when it is not whole."""
    path = kept.folder / f"slices-{data}.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        assert {"slices", "faces", "of"} <= told.keys()
    except (ValueError, AssertionError) as error:
        raise ValueError(f"{path} does not hold slices ({error!r})") from error
    return dict(told)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", required=True, help="FER2013, in any form that is read")
    parser.add_argument("--votes", help="FER+'s fer2013new.csv")
    parser.add_argument("--networks", default="expression-fer2013,expression")
    parser.add_argument("--out", type=Path, default=Path("."), help="holds results/")
    options = parser.parse_args(arguments)
    kept = Results(options.out / "results")
    faces = load_faces(options.data, options.votes)
    told = measure(faces, kept, options.networks.split(","))
    votes = " --votes fer2013new.csv" if options.votes else ""
    told |= {"command": f"python -m lab.face_slices --data fer2013{votes}",
             "revision": revision(), "date": now()}  # fmt: skip
    path = kept.folder / f"slices-{faces.name}.json"
    with atomic_write(path) as stream:
        stream.write((json.dumps(told, indent=1) + "\n").encode())
    print(f"Wrote {path.name}: {told['faces']:,} of {told['of']:,} validation faces")
    return 0


if __name__ == "__main__":
    escape_unprintable()
    sys.exit(main())
