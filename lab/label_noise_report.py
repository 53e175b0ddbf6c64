"""What RESULTS.md says of label noise: a table, classes and two figures, from its JSON file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch

from lab import plots
from lab.metrics import percent, wilson
from lab.reports import Row

__all__ = ["section"]

KINDS = {
    "one_voter": "one voter of the crowd",
    "most_voted": "the crowd's most voted class",
    "best_use": "all shares of votes, used best",
}


def section(results: Path, rows: Sequence[Row]) -> list[str]:
    """Parts of RESULTS.md, and their figures drawn; nothing where no label noise was measured.

    `rows` are the networks that stand beside the ceilings, where they were measured on the data.
    """
    parts: list[str] = []
    for file in sorted(results.glob("label_noise-*.json")):
        told = json.loads(file.read_text(encoding="utf-8"))
        data = told["data"]["name"]
        ceilings, confusion = f"{file.stem}-ceiling.png", f"{file.stem}-confusion.png"
        draw_ceilings(told, [row for row in rows if row.data == data], results / ceilings)
        draw_confusion(told, results / confusion)
        parts += [
            f"## Labels of {data} beside the crowd's votes",
            f"![Ceilings beside networks]({ceilings})",
            table(told["splits"]),
            explanation(told["splits"]["validation"]),
            by_class(told["splits"]),
            f"![Labels and the crowd's majority]({confusion})",
            *listed(told, data),
            f"Made by `{told['command']}` (revision {told['revision']}, {told['hardware']}).",
        ]
    return parts


def table(splits: dict[str, Any]) -> str:
    """How often each way to answer gives the label, split by split."""
    lines = ["| Who answers | " + " | ".join(splits) + " |", "|---" * (1 + len(splits)) + "|"]
    for kind, words in KINDS.items():
        cells = [share(told[kind]) for told in splits.values()]
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    cells = [percent(told["majority"]["k"], told["majority"]["n"]) for told in splits.values()]
    lines.append("| the crowd's majority, where it has one | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def share(count: dict[str, int]) -> str:
    """'2310/3589 = 64.4 %', and how many more share the first place."""
    text = f"{count['k']}/{count['n']} = {100 * count['k'] / max(count['n'], 1):.1f} %"
    if tied := count.get("tied", 0):
        text += f" ({tied} more share the first place: {tied_share(count):.1f} %)"
    return text


def tied_share(count: dict[str, int]) -> float:
    """Per cent, if every tie that holds the label counted as right."""
    return 100 * (count["k"] + count["tied"]) / max(count["n"], 1)


def explanation(told: dict[str, Any]) -> str:
    return (
        "The first row scores every single vote against the label; the second answers the class "
        "with most votes. “Used best” is a logistic regression from the shares of all votes to the "
        "label, fitted on the training split: it also knows how FER2013's labels differ from what "
        "a crowd sees. If a label were one more vote, drawn from the crowd's shares, a network "
        "that knew these exactly would reach "
        f"{100 * told['label_as_vote']:.1f} % of validation by answering the most voted class. "
        "A network above these figures has learnt habits of the labels that the crowd does not "
        "share, or remembers faces that stand in two splits."
    )


def by_class(splits: dict[str, Any]) -> str:
    """The most voted class and one voter, by the label's class."""
    names = list(splits["train"]["by_class"])
    head = ["Label", *(f"{split}: {words}" for split in splits
                       for words in ("most voted class", "one voter"))]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name in names:
        cells = [name]
        for told in splits.values():
            cells += [short(told["by_class"][name][kind]) for kind in ("most_voted", "one_voter")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def short(count: dict[str, int]) -> str:
    return (
        f"{count['k']}/{count['n']} = {100 * count['k'] / count['n']:.0f} %" if count["n"] else "–"
    )


def listed(told: dict[str, Any], data: str) -> list[str]:
    """Which faces are listed, how each network sides, and what it was taught."""
    if not told["networks"]:
        return []
    counts = " and ".join(f"{n:,} {split} faces" for split, n in told["listed"].items())
    lines = [
        f"[cleaned_labels-{data}.csv](cleaned_labels-{data}.csv) lists {counts} whose label the "
        "crowd's majority and every network named here contradict alike, by id as FER+ names them. "
        "`--cleaned-labels` replaces training labels by it. Test faces are not listed and no "
        "network was run on them: test labels stay as published."
    ]
    for network in told["networks"]:
        sides = "; ".join(
            f"{split}: of {n['n']:,} faces with the crowd {n['with_crowd']:,} "
            f"({100 * n['with_crowd'] / max(n['n'], 1):.0f} %), with the label "
            f"{n['with_label']:,} ({100 * n['with_label'] / max(n['n'], 1):.0f} %)"
            for split, n in network["where_crowd_contradicts"].items()
        )
        lines.append(
            f"Where crowd and label differ, `{network['name']}` sides: {sides}."
            f"{taught(network['taught'])}"
        )
    return lines


def taught(what: Sequence[str]) -> str:
    """What a network remembers of the training faces, and how that is treated."""
    parts = {
        "labels": " It was taught these training labels: there its agreement with a label may be "
        "memory and says nothing, so the list of training faces is too short rather than too long.",
        "votes": " It was taught these votes: on training faces its agreement with the crowd may "
        "be memory, so they are listed by the crowd's word alone.",
    }
    return "".join(parts[one] for one in what)


# --- figures ---


def draw_ceilings(told: dict[str, Any], rows: Sequence[Row], path: Path) -> None:
    """Ceilings and networks by their agreement with the validation labels."""
    splits = told["splits"]["validation"]
    faces = splits["most_voted"]["n"]
    shown: list[dict[str, Any]] = []
    for kind, words in KINDS.items():
        value = splits[kind]["k"] / splits[kind]["n"]
        # Votes for one face are not independent: as many as there are faces count.
        interval = wilson(round(value * faces), faces)
        shown.append({"name": words, "accuracy": value, "interval_95": interval, "group": "crowd"})
    for row in rows:
        result = row.evaluation_of("validation")
        if result and not row.network.members and row.at_home:
            shown.append({"name": row.folder, "accuracy": result.accuracy, "group": "network",
                          "interval_95": wilson(result.k, result.n)})  # fmt: skip
    most = splits["most_voted"]
    figure = plots.comparison(
        shown,
        f"{told['data']['name']}, validation: the crowd's most voted class is the label for "
        f"{100 * most['k'] / most['n']:.1f} % of the faces ({tied_share(most):.1f} % with ties). "
        "Bars are 95 % intervals.",
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_confusion(told: dict[str, Any], path: Path) -> None:
    """Labels against the crowd's majority, all splits together."""
    names = told["class_names"]
    counts = torch.tensor([split["confusion"] for split in told["splits"].values()]).sum(0)
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    off = shares.clone().fill_diagonal_(0)
    label, seen = divmod(int(off.argmax()), len(names))
    agree, n = int(counts.trace()), int(counts.sum())
    figure = plots.confusion(
        counts,
        names,
        f"{told['data']['name']}: label and majority agree on {agree} of {n} faces that have one "
        f"({100 * agree / n:.1f} %). {names[label].capitalize()} is most often seen as "
        f"{names[seen]} ({100 * float(off.max()):.0f} %).",
    )
    figure.axes[0].set_xlabel("the crowd's majority")
    figure.savefig(path, dpi=110)
    plt.close(figure)
