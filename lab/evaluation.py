"""Measure a checkpoint as it is shipped: one results JSON, its figures, a report in text."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from sklearn.metrics import classification_report

from expression.checkpoint import load_checkpoint
from expression.preprocessing import Preprocess
from hf_collate import Batches
from lab import metrics, model_card, models, plots
from lab.data import Faces, subset_indices
from lab.export import save_network
from lab.tensorboard_log import TensorBoardLog
from lab.votes import crowd_figures

__all__ = ["SPLITS", "draw", "evaluate", "load_model"]

SPLITS = ("validation", "test")
NAMES = {"plain": "", "flip": "with its mirror image: ", "shift": "18 views: "}


def load_model(
    checkpoint: Path, device: torch.device
) -> tuple[torch.nn.Module, dict[str, Any], Preprocess]:
    """(network in eval mode, card, preprocessing) of a checkpoint file."""
    state, card = load_checkpoint(checkpoint)
    model = models.restore(state, card)
    return model.to(device).eval(), card, Preprocess(**card["preprocess"])


def evaluate(
    checkpoint: Path,
    faces: Faces,
    out: Path,
    device: torch.device,
    board: TensorBoardLog | None = None,
    ways: Sequence[str] = ("plain", "flip"),
    final: bool = False,
) -> Path:
    """Validation figures of one checkpoint, and with `final` those of the test split, in those
    `ways` to look at a picture (`insight.metrics.VIEWS`).

    Where the data have a crowd's votes, `crowd` tells how the answers agree with them.
    Writes `out/results/NAME.json`, `out/results/NAME/` (figures, classification_report.txt),
    and the counts into the checkpoint's card. Returns the JSON's path.
    The data's classes are joined to the checkpoint's by name. Data with only some of them are
    measured too: an answer that names one of the others is a mistake.
    Raises ValueError when the data have a class that the checkpoint does not know.
    """
    model, card, rule = load_model(checkpoint, device)
    faces = faces.with_classes(card["class_names"], str(checkpoint), subset=True)
    limit = card.get("recipe", {}).get("limit_eval", 0)
    decoded = faces.decoded(rule)
    figures: dict[str, dict[str, metrics.Evaluation]] = {}
    crowd: dict[str, dict[str, Any]] = {}
    for split in SPLITS if final else SPLITS[:1]:
        rows = subset_indices(len(decoded[split]), limit) if limit else None
        loader = Batches(decoded[split], 128, device=device, indices=rows)
        answers = {
            way: metrics.collect(model, loader, device, views=metrics.VIEWS[way]) for way in ways
        }
        figures[split] = {
            way: metrics.evaluate(*answer, card["class_names"]) for way, answer in answers.items()
        }
        if (votes := faces.vote_counts(split)) is not None:
            counts = votes[0][loader.rows]
            crowd[split] = {
                way: crowd_figures(logits, counts, votes[1], card["class_names"])
                for way, (logits, _) in answers.items()
            }
        plain = figures[split]["plain"]
        card[split] = {"k": plain.k, "n": plain.n}
        words = (f"{NAMES[way]}{figures[split][way]}" for way in ways)
        print(f"{split:10}  {'   '.join(words)}", flush=True)
        if note := absent_note(plain):
            print(f"{split:10}  {note}", flush=True)
    save_network(checkpoint, model, card)
    checkpoint.with_suffix(".md").write_text(
        model_card.markdown(card, checkpoint.stem), encoding="utf-8"
    )
    report = out / "results" / f"{checkpoint.stem}.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    count = getattr(model, "count", lambda: sum(p.numel() for p in model.parameters()))
    content = {**card, "name": checkpoint.stem, "parameters": count()}
    content |= {"crowd": crowd} if crowd else {}
    content |= {s: {way: e.as_dict() for way, e in ways.items()} for s, ways in figures.items()}
    report.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draw(figures, card, report.with_suffix(""), board)
    return report


def draw(
    figures: dict[str, dict[str, metrics.Evaluation]],
    card: dict[str, Any],
    folder: Path,
    board: TensorBoardLog | None = None,
) -> None:
    """The figures of one run as PNG, the report as text, and the same on its board."""
    folder.mkdir(parents=True, exist_ok=True)
    split, val = list(figures)[-1], figures["validation"]["plain"]
    test = figures[split]["plain"]  # validation while the test split is closed
    what = f"{folder.name}, {split}"
    per_class = {name: f for name, f in test.per_class().items() if f["support"]}
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


def absent_note(evaluation: metrics.Evaluation) -> str:
    """Which classes have no face in a split, and how answers that name them count; or ""."""
    if not (absent := evaluation.absent):
        return ""
    return f"classes without a face here: {', '.join(absent)}; answers that name one are mistakes"


def report_text(evaluation: metrics.Evaluation, title: str) -> str:
    """scikit-learn's classification report, from the confusion matrix.

    Classes without a face have no row, and no part in the averages; a note names them.
    """
    rows, columns = evaluation.confusion.nonzero(as_tuple=True)
    counts, names = evaluation.confusion[rows, columns], evaluation.class_names
    report = classification_report(
        rows.repeat_interleave(counts).numpy(),
        columns.repeat_interleave(counts).numpy(),
        labels=[i for i, name in enumerate(names) if name not in evaluation.absent],
        target_names=[name for name in names if name not in evaluation.absent],
        digits=3,
        zero_division=0,
    )
    mistakes = "\n".join(
        f"{label:>12} taken for {answer:<12} {count:5d} ({100 * share:.1f} % of {label})"
        for label, answer, count, share in taken_for(evaluation)
    )
    note = f"Note: {absent_note(evaluation)}.\n\n" if evaluation.absent else ""
    return f"{title}: {evaluation}\n\n{note}{report}\nMost frequent mistakes:\n{mistakes}\n"
