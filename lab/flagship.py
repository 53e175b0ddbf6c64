"""The network that the demo serves: several seeds, the best on validation exported; ensembles."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from expression.checkpoint import read_card
from hf_collate import Batches
from lab import metrics
from lab.class_names import class_permutation
from lab.data import Faces
from lab.evaluation import SPLITS, absent_note, draw, load_model

__all__ = ["SPLITS", "ensemble", "export", "spread"]


def spread(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds, accuracy in [0, 1], of each split and way."""
    told: dict[str, Any] = {"seeds": [report["seed"] for report in reports]}
    for split in [split for split in SPLITS if all(split in report for report in reports)]:
        for way in ("plain", "flip"):
            values = [report[split][way]["accuracy"] for report in reports]
            told[f"{split}_{way}"] = {
                "mean": mean(values),
                "sd": stdev(values) if len(values) > 1 else None,
                "values": values,
            }
    return told


def export(reports: Sequence[Path], out: Path, stem: str) -> Path:
    """Copy the seed that is best on validation to `out`, under `stem`; returns the checkpoint.

    `reports` are the results JSONs that `evaluate` wrote, one a seed, with their checkpoints
    beside them (`../checkpoints`). The copied JSON says what all the seeds gave.
    """
    read = [json.loads(path.read_text(encoding="utf-8")) for path in reports]
    best = max(range(len(read)), key=lambda k: read[k]["validation"]["flip"]["accuracy"])
    source = reports[best]
    folder = source.parent.parent / "checkpoints"
    (out / "checkpoints").mkdir(parents=True, exist_ok=True)
    target = out / "checkpoints" / f"{stem}.safetensors"
    shutil.copy(folder / f"{source.stem}.safetensors", target)
    card = (folder / f"{source.stem}.md").read_text(encoding="utf-8")
    target.with_suffix(".md").write_text(card.replace(source.stem, stem), encoding="utf-8")
    content = {**read[best], "name": stem, "all_seeds": spread(read)}
    figures = {
        split: {way: metrics.Evaluation.from_dict(told, content["class_names"])
                for way, told in content[split].items()} for split in SPLITS if split in content
    }  # fmt: skip
    draw(figures, content, out / "results" / stem)
    report = out / "results" / f"{stem}.json"
    report.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return target


@torch.inference_mode()
def ensemble(
    checkpoints: Sequence[Path], faces: Faces, device: torch.device, way: str = "flip",
    final: bool = False,
) -> dict[str, Any]:
    """Validation figures of several networks' mean probabilities; with `final` also test's.

    Each looks at a picture in that `way` of `insight.metrics.VIEWS`.
    Classes are joined by name: the data's and the other networks' to those of the first network,
    whose order the figures have. The data may have only some of them.
    Raises ValueError when two networks know different classes, or the data have others.
    """
    known = {path: read_card(path)["class_names"] for path in checkpoints}
    first, names = str(checkpoints[0]), known[checkpoints[0]]
    orders = {
        path: class_permutation(known[path], names, model=str(path), data=first)
        for path in checkpoints
    }
    faces = faces.with_classes(names, first, subset=True)
    sums: dict[str, torch.Tensor] = {}
    labels: dict[str, torch.Tensor] = {}
    for path in checkpoints:
        model, _, rule = load_model(path, device)
        decoded = faces.decoded(rule)
        for split in SPLITS if final else SPLITS[:1]:
            loader = Batches(decoded[split], 128, device=device)
            logits, labels[split] = metrics.collect(model, loader, device, views=metrics.VIEWS[way])
            sums[split] = sums.get(split, 0) + logits.softmax(1)[:, orders[path]]
    told: dict[str, Any] = {
        "members": [path.stem for path in checkpoints],
        "data": faces.name,
        "way": way,
        "class_names": names,
    }
    for split in sums:
        logits = (sums[split] / len(checkpoints)).log()
        figures = metrics.evaluate(logits, labels[split], names)
        told[split] = figures.as_dict()
        if note := absent_note(figures):
            print(f"{split:10}  {note}", flush=True)
    return told
