"""A checkpoint's card in words: what trained it, how well it does, what it cannot tell.

Why: the same sentences stand beside the file, in the demo and at the command line,
and all of them come from the header of the checkpoint, so they cannot disagree.
Source: written for this project after Model Cards (Mitchell et al. 2019).
Needs only the standard library; copy freely (MIT, see LICENSE).
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["LIMITS", "crop_words", "headline", "markdown"]

LIMITS = (
    "It names the expression a face shows, never what somebody feels: the same face can mean "
    "many things. It was trained on labels that people gave to pictures, and people disagree "
    "about one face in three. It knows only the classes listed, was not tested for fairness "
    "across age, skin or culture, and must not be used to judge people. In the EU, inferring "
    "emotions at work or in education is prohibited (AI Act, Article 5)."
)


def share(figures: Mapping[str, int]) -> str:
    """{"k": 31, "n": 45} as '31/45 = 68.9 %'."""
    k, n = figures["k"], figures["n"]
    return f"{k}/{n} = {100 * k / n:.1f} %"


def crop_words(crop: dict[str, Any] | str) -> str:
    """How faces must be cropped, in a sentence; older cards carry it as words."""
    if isinstance(crop, str):
        return crop
    where = f"({crop['centre_x']:.2f}, {crop['centre_y']:.2f})"
    source = f"measured on {crop['measured']} of the training faces"
    return (
        f"a square in which the {crop['detector']} box has its centre at {where} and "
        f"{crop['size']:.2f} of the side; {source if crop['measured'] else 'not measured'}"
    )


def stage_words(stage: dict[str, Any]) -> str:
    """A training that went before: how long, what it reached, its command."""
    reached = stage.get("validation")
    figures = f", validation {share(reached)}" if reached else ""
    file = f", sha256 {stage['sha256'][:16]}…" if stage.get("sha256") else ""
    return f"{stage['epochs']} epochs{figures}{file}: `{stage['command']}` at {stage['revision']}"


def headline(card: dict[str, Any]) -> str:
    """One line: system, data and validation accuracy."""
    line = f"{card['system']}, trained on {card['data']['name']}"
    if val := card.get("validation"):
        line += f", validation {share(val)}"
    return line


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


if __name__ == "__main__":
    example = {
        "system": "tinyvgg",
        "class_names": ["happy", "sad"],
        "seed": 0,
        "epoch": 3,
        "data": {"name": "synthetic", "fingerprint": "0" * 16},
        "crop": "whole picture",
        "preprocess": {
            "size": 64,
            "mode": "RGB",
            "channels": 3,
            "resize": "squash",
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
        },
        "validation": {"k": 31, "n": 45},
    }
    print(markdown(example, "tinyvgg-synthetic"))
