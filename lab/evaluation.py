"""Measure a checkpoint as it is shipped; what is measured goes to results/ alone."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from sklearn.metrics import classification_report

from expression.preprocessing import Preprocess
from hf_collate import Batches
from lab import metrics, models, plots
from lab.calibration_plots import draw_calibration, figure_stem
from lab.data import Faces, subset_indices
from lab.provenance import hardware, joined_history, kept_by, revision
from lab.results import (
    SPLITS,
    FaceProbabilities,
    Key,
    MeasuredNetwork,
    Opening,
    Result,
    Results,
    file_sha256,
    now,
)
from lab.tensorboard_log import TensorBoardLog
from lab.votes import crowd_figures

__all__ = [
    "SPLITS",
    "absent_note",
    "command_of",
    "draw_all",
    "evaluate",
    "store_result",
    "load_model",
    "measured_network",
    "open_test",
    "result_of",
    "words_for",
]


def load_model(
    checkpoint: Path, device: torch.device
) -> tuple[torch.nn.Module, dict[str, Any], Preprocess]:
    """(network in eval mode, card, preprocessing) of a checkpoint file."""
    model, card = models.restore_checkpoint(checkpoint)
    return model.to(device).eval(), card, Preprocess(**card["preprocess"])


def measured_network(
    checkpoint: Path, model: torch.nn.Module, card: dict[str, Any]
) -> MeasuredNetwork:
    """A checkpoint as results/ names it; a system without parameters counts what it holds."""
    count = getattr(model, "count", lambda: sum(p.numel() for p in model.parameters()))
    return MeasuredNetwork(checkpoint.stem, file_sha256(checkpoint), card, count())


def evaluate(
    checkpoint: Path,
    faces: Faces,
    out: Path,
    device: torch.device,
    log: TensorBoardLog | None = None,
    ways: Sequence[str] = ("plain", "flip"),
    final: bool = False,
) -> Path:
    """Measure one checkpoint on validation, and with `final` on the test split too.

    `ways` are names of `lab.metrics.VIEWS`. Writes to `out/results/NAME/` alone: a result for
    each split and way, figures, a report; never to the checkpoint or its card. Opening the test
    split is logged in `out/results/test_openings.jsonl`. Returns `out/results/NAME`.
    Where the data have a crowd's votes, each result tells how the answers agree with them.
    The data's classes are joined to the checkpoint's by name. Data with only some of them are
    measured too: an answer that names one of the others is a mistake.
    Raises ValueError when the data have a class that the checkpoint does not know.
    """
    model, card, rule = load_model(checkpoint, device)
    faces = faces.with_classes(card["class_names"], str(checkpoint), subset=True)
    kept, decoded = Results(out / "results"), faces.decoded(rule)
    network = measured_network(checkpoint, model, card)
    command = command_of("evaluate", [checkpoint], faces, ways, final)
    if final:
        open_test(kept, network, faces, command, ways)
    measured: list[Result] = []
    for split in SPLITS if final else SPLITS[:1]:
        limit = card.get("recipe", {}).get("limit_eval", 0)
        size = len(decoded[split])
        rows = subset_indices(size, limit) if limit else torch.arange(size)
        loader = Batches(decoded[split], 128, device=device, indices=rows)
        for way in ways:
            logits, labels = metrics.collect(model, loader, device, views=metrics.VIEWS[way])
            told = metrics.evaluate(logits, labels, card["class_names"])
            result = result_of(network, faces, split, way, told, command, device)
            result = replace(result, crowd=crowd_of(faces, split, rows, logits))
            measured.append(store_result(kept, network, result, logits, labels, rows, faces))
        if note := absent_note(measured[-1].evaluation):
            print(f"{split:10}  {note}", flush=True)
    folder = kept.add_network(network)
    drawn = draw_all(network, measured, folder)
    if log:
        log.end(drawn)
    plt.close("all")
    return folder


def crowd_of(
    faces: Faces, split: str, rows: torch.Tensor, logits: torch.Tensor
) -> dict[str, Any] | None:
    """How the answers agree with the crowd's votes; None for data without votes."""
    if (votes := faces.vote_counts(split)) is None:
        return None
    return crowd_figures(logits, votes[0][rows], votes[1], faces.class_names)


def command_of(
    verb: str, checkpoints: Sequence[Path], faces: Faces, ways: Sequence[str], final: bool
) -> str:
    """The command that measures this again, without folders of this machine."""
    words = [f"python experiments.py {verb}", *(f"checkpoints/{p.name}" for p in checkpoints)]
    words += words_for(faces)
    if "tta18" in ways:
        words.append("--shifts")
    if final:
        words.append("--final")
    return " ".join(words)


def words_for(faces: Faces) -> list[str]:
    """The options that give these faces, by the name of the data before `lab.data.read` added what
    it did to them."""
    name = faces.name.removesuffix("_4") if faces.merged else faces.name
    name = name.removesuffix("_cleaned") if faces.cleaned else name
    words = [f"--data {name}"]
    if faces.cleaned:
        words.append(f"--cleaned-labels results/cleaned_labels-{name}.csv")
    return [*words, "--classes 4"] if faces.merged else words


def open_test(
    kept: Results, network: MeasuredNetwork, faces: Faces, command: str, ways: Sequence[str]
) -> None:
    """Log that the test split is looked at, before it is."""
    kept.log_opening(
        Opening(now(), command, network.name, network.sha256, faces.name, faces.fingerprint,
                list(ways))
    )  # fmt: skip


def result_of(
    network: MeasuredNetwork, faces: Faces, split: str, way: str, told: metrics.Evaluation,
    command: str, device: torch.device,
) -> Result:  # fmt: skip
    key = Key(network.sha256, faces.fingerprint, split, way)
    return Result(key, faces.name, told, command, revision(), hardware(device), now())


def store_result(
    kept: Results, network: MeasuredNetwork, result: Result, logits: torch.Tensor,
    labels: torch.Tensor, rows: torch.Tensor, faces: Faces,
) -> Result:  # fmt: skip
    """Store one result with its probabilities, and print it; returns what is stored.

    The probabilities and the loss are the network's own, without the temperature of its card: they
    stay what they are if another temperature is fitted, and give the calibration error before and
    after it (`lab.calibration_data.calibration_errors`). It changes no answer.
    """
    split = result.key.split
    shared = faces.in_train[split][rows.numpy()]
    probs = logits.float().softmax(1).numpy()
    stored = kept.add(network, result, FaceProbabilities.of(probs, labels, rows, shared))
    line = f"{split:10}  {result.key.views:5}  {result.evaluation}"
    at_home = network.card["data"]["fingerprint"] == faces.fingerprint
    if at_home and shared.any() and stored.unseen:
        line += f"; of those not in train {stored.unseen}"
    if not torch.equal(stored.evaluation.confusion, result.evaluation.confusion):
        line += f"; kept is what was measured on {stored.date[:10]}: {stored.evaluation}"
    print(line, flush=True)
    return stored


def draw_all(
    network: MeasuredNetwork, results: Sequence[Result], folder: Path
) -> dict[str, Figure]:
    """Every figure of a network in its folder; returned are those of the last split."""
    at_home = results[0].key.fingerprint == network.card["data"]["fingerprint"]
    drawn = draw_history(network, results[0].evaluation, folder) if at_home else {}
    for result in results:
        if result.key.views == "plain" or len({r.key.views for r in results}) == 1:
            drawn |= draw(result, folder) | draw_calibration(result, network.card, folder)
    return drawn


def draw(result: Result, folder: Path) -> dict[str, Figure]:
    """Confusion and classes of one result as PNG, its report as text, named as its JSON file."""
    told, stem = result.evaluation, figure_stem(result)
    what = f"{folder.name}, {result.data}, {result.key.split}"
    per_class = {name: f for name, f in told.per_class().items() if f["support"]}
    ranked = sorted(per_class, key=lambda name: per_class[name]["f1"])
    drawn = {
        "confusion": plots.confusion(
            told.confusion, told.class_names, f"{what}: {told}. {worst_mistake(told)}"
        ),
        "per_class": plots.per_class(
            per_class, f"{what}: F1 is highest for {ranked[-1]}, lowest for {ranked[0]}."
        ),
    }
    for name, figure in drawn.items():
        figure.savefig(folder / f"{stem}-{name}.png", dpi=110)
    text = report_text(told, what)
    (folder / f"{stem}-report.txt").write_text(text, encoding="utf-8")
    return drawn


def draw_history(
    network: MeasuredNetwork, val: metrics.Evaluation, folder: Path
) -> dict[str, Figure]:
    """The curves of all stages of a training, joined; nothing for a network without epochs."""
    history, chosen = joined_history(network.card)
    if not history:
        return {}
    figure = plots.history(
        history,
        f"{folder.name}: kept is epoch {chosen}, {kept_by(network.card)}.",
        chosen=chosen,
        chance=val.majority,
        guess_loss=math.log(len(val.class_names)),
    )
    figure.savefig(folder / "history.png", dpi=110)
    return {"history": figure}


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
    names = evaluation.class_names
    report = classification_report(
        *evaluation.pairs(),
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
