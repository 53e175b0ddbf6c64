"""The card beside a checkpoint (.md): its own words, and what results/ says was measured.

Source: written for this project after Model Cards (Mitchell et al. 2019); the metadata on top are
those of the Hugging Face hub.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from expression.about import LIMITS, crop_words, headline, share
from expression.checkpoint import read_card
from expression.files import atomic_write, whole_files
from lab.metrics import VIEW_WORDS, Evaluation
from lab.provenance import kept_by, totals
from lab.publishing import TAG
from lab.results import SPLITS, Result, Results

__all__ = ["LIMITS", "crop_words", "headline", "markdown", "text", "write", "write_all"]


def text(checkpoint: Path, kept: Results) -> str:
    """The card as Markdown with the metadata that the Hugging Face hub reads on top."""
    card = read_card(checkpoint)
    results = sorted(kept.measured(checkpoint), key=order)
    data = ModelCardData(
        model_name=checkpoint.stem,
        license="mit",
        library_name="pytorch",
        pipeline_tag="image-classification",
        tags=[TAG],
        datasets=[source["name"] for source in sources(card)],
        metrics=["accuracy"],
        eval_results=[entry for r in results for entry in entries(r, is_home(r, card))] or None,
    )
    minutes, epochs = totals(card)
    stages = len(card.get("stages", ())) + 1
    figures = {"trained": f"{epochs} epochs, {minutes:.1f} minutes, stages: {stages}"}
    for result in results:
        home = is_home(result, card)
        what = result.key.split + ("" if home else f" of {result.data}")
        if result.key.views != "plain":
            what += f", {VIEW_WORDS[result.key.views]}"
        figures[what] = words(result, home)
    body = markdown(card, checkpoint.stem, figures)
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))


def sources(card: dict[str, Any]) -> list[dict[str, Any]]:
    """The data sets that the network was trained on, each with name and fingerprint."""
    return [card["data"], *card["data"].get("further", ())]


def order(result: Result) -> tuple[str, int, int]:
    """Data by name, validation before test, one view before more."""
    views = list(VIEW_WORDS).index(result.key.views)
    return result.data, SPLITS.index(result.key.split), views


def is_home(result: Result, card: dict[str, Any]) -> bool:
    """Whether a result is of the data that the network was trained on."""
    return result.key.fingerprint == card["data"]["fingerprint"]


def unseen(result: Result, home: bool) -> Evaluation | None:
    """Figures of the faces that the network did not train on, where those are not all."""
    found = result.unseen if home else None
    return found if found and found.n < result.evaluation.n else None


def words(result: Result, home: bool) -> str:
    """Figures of all faces, and of those that are not in the training split too."""
    if others := unseen(result, home):
        return f"{result.evaluation} of all; {others} of those that are not in its training split"
    return str(result.evaluation)


def entries(result: Result, home: bool) -> list[EvalResult]:
    """Accuracy of all faces and of the unseen ones, as the hub's model index holds them."""
    shares = {"": result.evaluation}
    if others := unseen(result, home):
        shares[", faces that are not in train"] = others
    return [
        EvalResult(
            task_type="image-classification",
            dataset_type=result.data,
            dataset_name=result.data,
            dataset_split=result.key.split,
            metric_type="accuracy",
            metric_name=f"accuracy, {VIEW_WORDS[result.key.views]}{which}: {told.k}/{told.n}",
            metric_value=round(told.accuracy, 4),
        )
        for which, told in shares.items()
    ]


def write(checkpoint: Path, kept: Results) -> Path:
    """Write the card beside a checkpoint; the checkpoint itself is only read."""
    path = checkpoint.with_suffix(".md")
    with atomic_write(path) as file:
        file.write(text(checkpoint, kept).encode())
    return path


def write_all(folder: Path, kept: Results) -> list[Path]:
    """Write the card of every checkpoint in a folder."""
    return [write(path, kept) for path in whole_files(folder, "*.safetensors")]


def stage_words(stage: dict[str, Any]) -> str:
    """A training that went before: how long, what it reached, its command."""
    reached = stage.get("validation")
    figures = f", validation {share(reached)}" if reached else ""
    file = f", sha256 {stage['sha256'][:16]}…" if stage.get("sha256") else ""
    return f"{stage['epochs']} epochs{figures}{file}: `{stage['command']}` at {stage['revision']}"


def averaged_rows(card: dict[str, Any]) -> list[tuple[str, str]]:
    """Of which trainings the weights are the mean; no row for a card of one training."""
    if not (told := card.get("averaged")):
        return []
    parts = [f"{one['share']:.0%} `{one['name']}`, sha256 {one['sha256'][:16]}…"
             for one in told["members"]]  # fmt: skip
    return [("Averaged weights", f"{'; '.join(parts)}: `{told['command']}`")]


def calibration_rows(card: dict[str, Any]) -> list[tuple[str, str]]:
    """How the answer is made of the heads, its temperature, and when it is "not sure"; no rows for
    a card that says nothing of them."""
    rows = []
    if card.get("choice"):
        weights = ", ".join(f"{head} {weight:g}" for head, weight in card["heads"].items())
        chosen = f"{weights}; prior correction {card['prior_correction']:g}"
        rows.append(("Heads", f"{chosen}; chosen by: {card['choice']['rule']}"))
    if not (told := card.get("calibration")):
        return rows
    where = f"{told['n']} faces of {told['data']}'s {told['split']} split, truth: {told['truth']}"
    errors = ""
    if "ece_before" in told:
        before, after = 100 * told["ece_before"], 100 * told["ece_after"]
        errors = f", expected calibration error {before:.1f} % before, {after:.1f} % after"
    rows.append(("Temperature", f"{card['temperature']:g} ({where}{errors})"))
    if threshold := card["min_confidence"]:
        answered = share({"k": told["answered"], "n": told["n"]})
        wrong = share({"k": told["mistakes"], "n": told["answered"]})
        rows.append(
            ("Not sure", f"below {threshold:g}; {answered} answered, {wrong} of them wrong")
        )
    if note := told.get("note"):
        rows.append(("Calibration", note))
    return rows


def markdown(card: dict[str, Any], name: str, figures: Mapping[str, str] | None = None) -> str:
    """The card as Markdown, for the file beside the checkpoint.

    `figures` are rows of what was measured (name → words); the card's own counts stand where
    they say nothing of a split.
    """
    rule = card["preprocess"]
    data = ", ".join(f"{one['name']} (fingerprint `{one['fingerprint']}`)" for one in sources(card))
    own = {split: share(card[split]) for split in ("validation", "test") if split in card}
    figures = {**(figures or {})}
    figures |= {split: text for split, text in own.items() if split not in figures}
    rows = [
        ("System", f"`{card['system']}` {card.get('system_args') or ''}".strip()),
        ("Classes", ", ".join(card["class_names"])),
        ("Data", data),
        ("Faces", crop_words(card["crop"])),
        (
            "Input",
            f"{rule['mode']}, {rule['size']} × {rule['size']} px ({rule['resize']}), "
            f"{rule['channels']} channels, mean {rule['mean']}, std {rule['std']}",
        ),
        (
            "Chosen",
            f"epoch {card['epoch'] + 1}, {kept_by(card)}" if "epoch" in card else "–",
        ),
        *[(f"Stage {i}", stage_words(stage)) for i, stage in enumerate(card.get("stages", ()), 1)],
        *averaged_rows(card),
        *[
            ("Learnt from", f"`{path}`, sha256 {digest[:16]}…")
            for path, digest in card.get("learnt_from", {}).items()
        ],
        *calibration_rows(card),
        ("Seed", card.get("seed", "–")),
        ("Versions", ", ".join(f"{k} {v}" for k, v in card.get("versions", {}).items()) or "–"),
        ("Command", f"`{card['command']}`" if card.get("command") else "–"),
    ]
    rows += [(what[:1].upper() + what[1:], words) for what, words in figures.items()]
    table = "\n".join(f"| {key} | {value} |" for key, value in rows)
    return (
        f"# {name}\n\n{headline(card)}.\n\n| | |\n|---|---|\n{table}\n\n"
        f"## What it cannot tell\n\n{LIMITS}\n"
    )
