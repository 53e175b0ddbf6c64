"""Measure a checkpoint as it is shipped: one results JSON, its figures, a report in text."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from sklearn.metrics import classification_report

import systems
from hf_collate import Batches, Preprocess
from insight import metrics, model_card, plots
from lab.board import Board
from lab.data import Faces, some
from studio.card import load_checkpoint
from train_loop import save_checkpoint

__all__ = ["SPLITS", "draw", "evaluate", "load_model", "resolve_checkpoint"]

SPLITS = ("validation", "test")
NAMES = {"plain": "", "flip": "with its mirror image: ", "shift": "18 views: "}


def load_model(
    checkpoint: Path, device: torch.device, class_names: Sequence[str] | None = None
) -> tuple[torch.nn.Module, dict[str, Any], Preprocess]:
    """(network in eval mode, card, preprocessing) of a checkpoint file.

    Raises ValueError when it knows other classes than `class_names`, those of the data.
    """
    state, card = load_checkpoint(checkpoint)
    if class_names is not None and card["class_names"] != list(class_names):
        raise ValueError(f"{checkpoint} knows {card['class_names']}, the data {class_names}")
    model = systems.restore(state, card)
    return model.to(device).eval(), card, Preprocess(**card["preprocess"])


def resolve_checkpoint(path: str) -> str:
    """A checkpoint's path: as given, or else below the repository, where recipes mean it."""
    ours = Path(__file__).resolve().parent.parent / path
    return str(ours) if not Path(path).exists() and ours.is_file() else path


def evaluate(
    checkpoint: Path,
    faces: Faces,
    out: Path,
    device: torch.device,
    board: Board | None = None,
    ways: Sequence[str] = ("plain", "flip"),
) -> Path:
    """Validation and test figures of one checkpoint, in those `ways` to look at a picture
    (`insight.metrics.VIEWS`).

    Writes `out/results/NAME.json`, `out/results/NAME/` (figures, classification_report.txt),
    and the validation and test counts into the checkpoint's card. Returns the JSON's path.
    Raises ValueError when the data have other classes than the checkpoint.
    """
    model, card, rule = load_model(checkpoint, device, faces.class_names)
    limit = card.get("recipe", {}).get("limit_eval", 0)
    decoded = faces.decoded(rule)
    figures: dict[str, dict[str, metrics.Evaluation]] = {}
    for split in SPLITS:
        rows = some(len(decoded[split]), limit) if limit else None
        loader = Batches(decoded[split], 128, device=device, indices=rows)
        figures[split] = {
            way: metrics.evaluate(
                *metrics.collect(model, loader, device, views=metrics.VIEWS[way]),
                card["class_names"],
            )
            for way in ways
        }
        plain = figures[split]["plain"]
        card[split] = {"k": plain.k, "n": plain.n}
        words = (f"{NAMES[way]}{figures[split][way]}" for way in ways)
        print(f"{split:10}  {'   '.join(words)}", flush=True)
    save_checkpoint(checkpoint, model, card, torch.float16)
    checkpoint.with_suffix(".md").write_text(
        model_card.markdown(card, checkpoint.stem), encoding="utf-8"
    )
    report = out / "results" / f"{checkpoint.stem}.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    count = getattr(model, "count", lambda: sum(p.numel() for p in model.parameters()))
    content = {**card, "name": checkpoint.stem, "parameters": count()}
    content |= {s: {way: e.as_dict() for way, e in ways.items()} for s, ways in figures.items()}
    report.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draw(figures, card, report.with_suffix(""), board)
    return report


def draw(
    figures: dict[str, dict[str, metrics.Evaluation]],
    card: dict[str, Any],
    folder: Path,
    board: Board | None = None,
) -> None:
    """The figures of one run as PNG, the report as text, and the same on its board."""
    folder.mkdir(parents=True, exist_ok=True)
    test, val = figures["test"]["plain"], figures["validation"]["plain"]
    what = f"{folder.name}, test"
    per_class = test.per_class()
    ranked = sorted(per_class, key=lambda name: per_class[name]["f1"])
    drawn = {
        "confusion": plots.confusion(
            test.confusion, test.class_names, f"{what}: {test}. {worst_mistake(test)}"
        ),
        "per_class": plots.per_class(
            per_class, f"{what}: {ranked[-1]} is told best, {ranked[0]} worst (F1)."
        ),
    }
    if history := card.get("history"):
        chosen = card["epoch"]
        drawn["history"] = plots.history(
            history,
            f"{folder.name}: epoch {chosen + 1} was chosen, by validation accuracy.",
            chosen=chosen + 1,
            chance=val.majority,
            guess_loss=torch.log(torch.tensor(float(len(val.class_names)))).item(),
        )
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png", dpi=110)
    if board:
        board.end(drawn)
    plt.close("all")
    (folder / "classification_report.txt").write_text(report_text(test, what), encoding="utf-8")


def taken_for(evaluation: metrics.Evaluation, top: int = 6) -> list[tuple[str, str, int, float]]:
    """(label, answer, faces, share of the label's faces) of the mistakes with the largest share."""
    names, counts = evaluation.class_names, evaluation.confusion
    pairs = [
        (names[i], names[j], int(counts[i, j]), int(counts[i, j]) / max(int(counts[i].sum()), 1))
        for i in range(len(names))
        for j in range(len(names))
        if i != j and counts[i, j]
    ]
    return sorted(pairs, key=lambda pair: -pair[3])[:top]


def worst_mistake(evaluation: metrics.Evaluation) -> str:
    """The class that is most often taken for another, in a sentence."""
    if not (worst := taken_for(evaluation, 1)):
        return "No mistakes."
    label, answer, _, share = worst[0]
    return f"Most often mistaken: {label} for {answer} ({100 * share:.0f} %)."


def report_text(evaluation: metrics.Evaluation, title: str) -> str:
    """scikit-learn's classification report, from the confusion matrix."""
    rows, columns = evaluation.confusion.nonzero(as_tuple=True)
    counts = evaluation.confusion[rows, columns]
    report = classification_report(
        rows.repeat_interleave(counts).numpy(),
        columns.repeat_interleave(counts).numpy(),
        labels=range(len(evaluation.class_names)),
        target_names=evaluation.class_names,
        digits=3,
        zero_division=0,
    )
    mistakes = "\n".join(
        f"{label:>12} taken for {answer:<12} {count:5d} ({100 * share:.1f} % of {label})"
        for label, answer, count, share in taken_for(evaluation)
    )
    return f"{title}: {evaluation}\n\n{report}\nMost frequent mistakes:\n{mistakes}\n"
