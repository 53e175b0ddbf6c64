"""A checkpoint's card in words: what trained it, how well it does, what it cannot tell.

Why: the same sentences stand beside the file, in the demo and at the command line,
and all of them come from the header of the checkpoint, so they cannot disagree.
Source: written for this project after Model Cards (Mitchell et al. 2019).
Needs only the standard library; copy freely (MIT, see LICENSE).
"""

from collections.abc import Mapping
from typing import Any

from expression.about import LIMITS, crop_words, headline, share

__all__ = ["markdown"]


def stage_words(stage: dict[str, Any]) -> str:
    """A training that went before: how long, what it reached, its command."""
    reached = stage.get("validation")
    figures = f", validation {share(reached)}" if reached else ""
    file = f", sha256 {stage['sha256'][:16]}…" if stage.get("sha256") else ""
    return f"{stage['epochs']} epochs{figures}{file}: `{stage['command']}` at {stage['revision']}"


def markdown(card: dict[str, Any], name: str, figures: Mapping[str, str] | None = None) -> str:
    """The card as Markdown, for the file beside the checkpoint.

    `figures` are rows of what was measured (name → words); the card's own counts stand where
    they say nothing of a split.
    """
    rule = card["preprocess"]
    own = {split: share(card[split]) for split in ("validation", "test") if split in card}
    figures = {**(figures or {})}
    figures |= {split: text for split, text in own.items() if split not in figures}
    rows = [
        ("System", f"`{card['system']}` {card.get('system_args') or ''}".strip()),
        ("Classes", ", ".join(card["class_names"])),
        ("Data", f"{card['data']['name']} (fingerprint `{card['data']['fingerprint']}`)"),
        ("Faces", crop_words(card["crop"])),
        (
            "Input",
            f"{rule['mode']}, {rule['size']} × {rule['size']} px ({rule['resize']}), "
            f"{rule['channels']} channels, mean {rule['mean']}, std {rule['std']}",
        ),
        (
            "Chosen",
            f"epoch {card['epoch'] + 1}, by validation accuracy" if "epoch" in card else "–",
        ),
        *[(f"Stage {i}", stage_words(stage)) for i, stage in enumerate(card.get("stages", ()), 1)],
        *[
            ("Learnt from", f"`{path}`, sha256 {digest[:16]}…")
            for path, digest in card.get("learnt_from", {}).items()
        ],
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
