"""A checkpoint with several heads → a new one whose card says how they make the answer, calibrated.

Why: an exported checkpoint is never changed. So the choice of `lab.answer_choice`, with the
temperature and the threshold for that answer, is the card of a new one with the same weights; the
grid that was looked at and the checkpoint that it comes from stand in the card's `choice`.
Source: written for this project.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

from expression.checkpoint import load_checkpoint, save_checkpoint
from lab import calibration_plots, model_card
from lab.answer_choice import (
    LABEL_BOUND,
    MAJORITY_BOUND,
    RULE,
    Way,
    choose,
    head_logits,
    ways_of,
)
from lab.calibration import Calibration, calibrate
from lab.calibration_data import validation_truth
from lab.class_names import UNCERTAIN
from lab.data import Faces, check_name
from lab.evaluation import load_model, measured_network
from lab.export import export_checkpoint
from lab.metrics import evaluate
from lab.provenance import revision
from lab.results import Results, file_sha256
from lab.votes import known_majority

__all__ = ["new_checkpoint", "target_of", "write_calibrated"]


def target_of(out: Path, checkpoints: Sequence[Path], name: str | None) -> Path:
    """The checkpoint that is written: out/checkpoints/NAME.safetensors, by default
    SYSTEM_calibrated-DATA. Asked before data are read: that takes minutes.

    Raises ValueError for several checkpoints, for a NAME that cannot be one, and where the file,
    its .onnx or its .md is there already.
    """
    if len(checkpoints) != 1:
        raise ValueError(f"calibrate takes one checkpoint, not {len(checkpoints)}")
    first, dash, rest = checkpoints[0].stem.partition("-")
    return new_checkpoint(out, name or f"{first}_calibrated{dash}{rest}")


def new_checkpoint(out: Path, name: str) -> Path:
    """Where a checkpoint of this name is written: out/checkpoints/NAME.safetensors.

    Raises ValueError for a NAME that cannot be one, and where the file, its .onnx or its .md is
    there already.
    """
    check_name(name)
    path = out / "checkpoints" / f"{name}.safetensors"
    for ending in (".safetensors", ".onnx", ".md"):
        if (there := path.with_name(name + ending)).exists():
            raise ValueError(f"{there} exists and is never replaced; choose another name (--to)")
    return path


def write_calibrated(
    checkpoint: Path,
    faces: Faces,
    further: Sequence[Faces],
    target: Path,
    device: torch.device,
    command: str = "",
) -> None:
    """Choose how a checkpoint answers, fit temperature and threshold for that answer on the crowd's
    majority, and write `target`, OUT/checkpoints/NAME.safetensors, with its .onnx and .md.

    Figures go to OUT/results/NAME/. Raises ValueError where the data have no votes or their classes
    do not fit the network's.
    """
    model, card, rule = load_model(checkpoint, device)
    names = card["class_names"]
    faces = faces.with_classes(names, str(checkpoint))
    if (votes := faces.vote_counts("validation")) is None:
        raise ValueError(
            f"{faces.name} has no votes, which the rule needs; join FER+'s file with --votes PATH"
        )
    others = [each.with_classes(names, str(checkpoint), subset=True) for each in further]
    own = head_logits(model, card, rule, faces, device)
    elsewhere = {each.name: head_logits(model, card, rule, each, device) for each in others}
    crowd = known_majority(*votes, names)
    ways = ways_of(own, crowd, elsewhere, card)
    best = choose(ways)
    logits = own.answer(ways[best].weights, ways[best].prior_correction)
    truth, kind = validation_truth(faces, torch.arange(len(logits)), crowd=True)
    fitted = calibrate(logits.numpy(), truth.numpy(), data=faces.name, truth=kind)
    counts = {"label": len(own.labels), "majority": int((crowd >= 0).sum())}
    card.pop("test", None)  # of another answer
    new = {
        **card,
        "heads": ways[best].weights,
        "prior_correction": ways[best].prior_correction,
        "validation": evaluate(logits, own.labels, names).for_card(),
        **fitted.for_card(),
        "choice": {
            **told(ways, best, list(elsewhere)),
            "faces": counts | {data: len(each.labels) for data, each in elsewhere.items()},
            "data": [faces.identity(votes=False), *(o.identity(votes=False) for o in others)],
            "checkpoint": {"name": checkpoint.stem, "sha256": file_sha256(checkpoint)},
            "command": command,
            "revision": revision(),
        },
    }
    write(checkpoint, target, new)
    network = measured_network(target, model, new)
    folder = Results(target.parent.parent / "results").add_network(network)
    draw(folder, ways, best, list(elsewhere), fitted, logits.softmax(1).numpy(), truth.numpy())
    print(summary(ways[best], list(elsewhere), fitted), flush=True)


def told(ways: Sequence[Way], best: int, others: Sequence[str]) -> dict[str, Any]:
    """The rule, the whole grid with its figures, and what was chosen, for a card."""
    heads = list(ways[0].weights)
    rows = [
        [*way.weights.values(), way.prior_correction,
         *(round(x, 5) for x in (way.label, way.majority, *way.elsewhere))]
        for way in ways
    ]  # fmt: skip
    return {
        "rule": RULE,
        "within_bounds": ways[best].within_bounds,
        "columns": [*(f"weight {head}" for head in heads), "prior_correction", "label accuracy",
                    "majority accuracy", *(f"{data} mean recall" for data in others)],
        "grid": rows,
        "chosen": best,
    }  # fmt: skip


def write(source: Path, target: Path, card: dict[str, Any]) -> None:
    """The weights of `source` with another card, its .onnx and its .md."""
    state, _ = load_checkpoint(source)
    floats = [a for a in state.values() if a.dtype == np.float32]
    with np.errstate(over="ignore"):
        half = all(np.array_equal(a.astype(np.float16).astype(np.float32), a) for a in floats)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(target, state, card, half)
    export_checkpoint(target)
    model_card.write(target, Results(target.parent.parent / "results"))


def draw(
    folder: Path, ways: Sequence[Way], best: int, others: Sequence[str], fitted: Calibration,
    probabilities: np.ndarray, truth: np.ndarray,
) -> None:  # fmt: skip
    """frontier.png, and the calibration against the crowd's majority, in the results' folder."""
    points = [
        calibration_plots.Point(
            next((head for head, weight in way.weights.items() if weight == 1), "")
            if not way.prior_correction and len(way.weights) > 1
            else "",
            way.label, way.majority, way.elsewhere[0] if way.elsewhere else None,
            way.prior_correction,
        )
        for way in ways
    ]  # fmt: skip
    chosen = ways[best]
    among = "those within both bounds" if chosen.within_bounds else "all, for none keeps the bounds"
    without = "".join(f" without {name}" for name in UNCERTAIN.get(others[0], ())) if others else ""
    figure = calibration_plots.frontier(
        points, best,
        f"{folder.name}, validation: {chosen} has the highest mean figure of {among}: labels "
        f"{100 * chosen.label:.1f} %, majority {100 * chosen.majority:.1f} %.",
        bounds=(LABEL_BOUND, MAJORITY_BOUND),
        colour=f"{others[0]}, mean recall{without}" if others else "",
    )  # fmt: skip
    figure.savefig(folder / "frontier.png", dpi=110)
    plt.close(figure)
    known = truth >= 0
    figure = calibration_plots.calibration(
        probabilities[known], truth[known], f"{folder.name}, {fitted.data}, majority of the crowd",
        fitted.temperature, fitted.min_confidence,
    )  # fmt: skip
    figure.savefig(folder / f"{fitted.data}-validation-majority-calibration.png", dpi=110)
    plt.close(figure)


def summary(chosen: Way, others: Sequence[str], fitted: Calibration) -> str:
    """What was chosen and fitted, in lines for the terminal."""
    figures = [f"labels {100 * chosen.label:.1f} %", f"majority {100 * chosen.majority:.1f} %"]
    figures += [f"{d} {100 * x:.1f} %" for d, x in zip(others, chosen.elsewhere, strict=True)]
    bounds = "within both bounds" if chosen.within_bounds else "no answer keeps both bounds"
    lines = [f"chosen: {chosen} ({bounds}): {', '.join(figures)}"]
    if fitted.ece:
        lines.append(
            f"temperature {fitted.temperature:g}: calibration error {100 * fitted.ece[0]:.1f} % "
            f"before, {100 * fitted.ece[1]:.1f} % after; threshold {fitted.min_confidence:g}: "
            f"{fitted.answered} of {fitted.n} answered, {fitted.mistakes} wrong"
        )
    return "\n".join([*lines, *filter(None, [fitted.note])])
