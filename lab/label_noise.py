"""What FER2013's labels are worth: how far a crowd agrees with them, and which look wrong.

Why: a network cannot be expected to name what ten people do not see. The ceilings below say how
high accuracy on the labels can be for whoever sees what the crowd sees. And where the crowd and a
network both contradict a label, the label is probably wrong.

A network that was trained on these labels remembers some of them. If it agrees with a label
against the crowd, that says nothing, and the label stays. If it agrees with the crowd against the
very label that it was taught, that counts: so on training faces the list is too short rather than
too long. A network that was taught the crowd's votes is the other way round: on training faces its
agreement with the crowd may be memory, and the list there has the crowd's word alone.

Test labels are counted in the ceilings, which need no network. No network is run on test faces
here and none is listed: test labels stay as published.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from expression.checkpoint import read_card
from expression.files import atomic_write
from hf_collate import Batches
from lab.class_names import class_permutation
from lab.data import Faces
from lab.evaluation import load_model
from lab.heads import log_probs_of
from lab.provenance import hardware, revision
from lab.results import file_sha256, now
from lab.votes import columns_of, majority, vote_shares

if TYPE_CHECKING:
    from lab.datasets.cleaned import Change

__all__ = ["ceiling", "label_noise", "predict_labels", "suspects"]

LISTED = ("train", "validation")  # splits whose labels may be doubted


def ceiling(
    labels: Tensor, counts: Tensor, vote_names: Sequence[str], class_names: Sequence[str]
) -> dict[str, Any]:
    """How a crowd's votes (N, len(vote_names)) agree with labels (N,), as counts and shares:

    `most_voted`: k of n faces whose label is the one class with most votes; `tied` more share the
    first place with others. Faces without a vote for any class are among the n.
    `one_voter`: k of all n votes are for the label's class.
    `majority`: k of the n faces with a FER+ majority for one of the classes.
    `label_as_vote`: accuracy of the most voted class if the label were one more vote for one of
    the classes, drawn from the crowd's shares: what a network that knew them exactly could expect.
    `by_class`: the first two for each label's class. `confusion`: rows labels, columns the
    majority's class, faces with a majority only.
    """
    count = len(class_names)
    shares = vote_shares(counts, vote_names, class_names)
    best = shares.amax(1, keepdim=True)
    first = (shares == best) & (best > 0)  # (N, classes): has most votes, perhaps with others
    named = first.gather(1, labels[:, None])[:, 0]
    sole, tied = named & (first.sum(1) == 1), named & (first.sum(1) > 1)
    votes = counts[:, columns_of(vote_names, class_names)].long()
    own, cast = votes.gather(1, labels[:, None])[:, 0], counts.long().sum(1)
    top = majority(counts, vote_names, class_names)
    clear = (top >= 0) & (top < count)
    cells = torch.bincount(labels[clear] * count + top[clear], minlength=count * count)

    def told(chosen: Tensor) -> dict[str, Any]:
        return {
            "most_voted": {"k": int(sole[chosen].sum()), "n": int(chosen.sum()),
                           "tied": int(tied[chosen].sum())},
            "one_voter": {"k": int(own[chosen].sum()), "n": int(cast[chosen].sum())},
        }  # fmt: skip

    return told(torch.ones_like(clear)) | {
        "majority": {"k": int((top == labels)[clear].sum()), "n": int(clear.sum())},
        "label_as_vote": float(best[best > 0].mean()) if (best > 0).any() else None,
        "by_class": {name: told(labels == index) for index, name in enumerate(class_names)},
        "confusion": cells.view(count, count).tolist(),
    }


def predict_labels(counts: Tensor, labels: Tensor, others: Tensor) -> Tensor:
    """Labels (M,) of faces with votes `others` (M, k), by a logistic regression on the shares of
    all votes, fitted on `counts` (N, k) and their `labels` (N,).

    This is the best use of the crowd's shares: it knows that FER2013 labels "fear" where a crowd
    sees surprise.
    """
    fitted = LogisticRegression(C=100.0, max_iter=1000)
    fitted.fit(all_shares(counts), labels.numpy())
    return torch.from_numpy(fitted.predict(all_shares(others)))


def all_shares(counts: Tensor) -> np.ndarray:
    votes = counts.double()
    return (votes / votes.sum(1, keepdim=True).clamp(min=1)).numpy()


def suspects(labels: Tensor, top: Tensor, answers: Tensor, num_classes: int) -> Tensor:
    """Rows (k,) whose label the crowd's majority `top` (N,) and every network contradict alike.

    `answers` are class indices (networks, N); `top` as `lab.votes.majority` gives it.
    """
    clear = (top >= 0) & (top < num_classes)
    return (clear & (top != labels) & (answers == top).all(0)).nonzero()[:, 0]


@torch.inference_mode()
def probabilities(
    checkpoint: Path, faces: Faces, head: str, device: torch.device
) -> dict[str, Tensor]:
    """{split: (N, classes)} of the splits that are listed, by a network's answer or one head.

    Raises ValueError for a head that the network does not have.
    """
    model, card, rule = load_model(checkpoint, device)
    place = class_permutation(card["class_names"], faces.class_names, model=str(checkpoint))
    if head not in ("answer", *(heads := card.get("heads", {"label": 1.0}))):
        raise ValueError(f"{checkpoint.name} has no head {head}; it has {', '.join(heads)}")
    decoded, found = faces.decoded(rule), {}
    for split in LISTED:
        parts = []
        for images, _ in Batches(decoded[split], 128, device=device):
            told = model(images)
            if head != "answer":  # `forward` gives the logits of all heads, not the one answer
                told = log_probs_of(model, model.forward(images), head)
                assert told is not None
            parts.append(told.softmax(1)[:, place].cpu())
        found[split] = torch.cat(parts)
    return found


def memory(card: dict[str, Any], faces: Faces) -> list[str]:
    """What a network was taught about these training faces: "labels", "votes", both or nothing."""
    if card["data"]["fingerprint"] != faces.fingerprint:
        return []
    heads = set(card.get("heads", {"label": 1.0}))
    return [
        what for what, by in (("labels", {"label", "mean"}), ("votes", {"votes", "mean"}))
        if heads & by
    ]  # fmt: skip


def describe_network(
    path: Path, faces: Faces, head: str, probs: dict[str, Tensor], tops: dict[str, Tensor]
) -> dict[str, Any]:
    """A network, what it remembers, and whom it sides with where crowd and label differ."""
    told: dict[str, Any] = {
        "name": path.stem, "sha256": file_sha256(path), "head": head,
        "taught": memory(read_card(path), faces), "where_crowd_contradicts": {},
    }  # fmt: skip
    for split in LISTED:
        labels, preds, top = faces.labels(split), probs[split].argmax(1), tops[split]
        against = (top >= 0) & (top < len(faces.class_names)) & (top != labels)
        told["where_crowd_contradicts"][split] = {
            "n": int(against.sum()),
            "with_crowd": int((preds == top)[against].sum()),
            "with_label": int((preds == labels)[against].sum()),
        }
    return told


def label_noise(
    faces: Faces, checkpoints: Sequence[Path], head: str, out: Path, device: torch.device
) -> list[Path]:
    """Write `out/results/label_noise-DATA.json` and, with checkpoints, `cleaned_labels-DATA.csv`:
    the training and validation faces whose label the crowd and every network contradict alike.

    Both files are made anew each time: they name the checkpoints by SHA-256.
    Raises ValueError for data without votes, other classes, or a head that a network lacks.
    """
    splits: dict[str, Any] = {}
    known, tops = {}, {}
    for split in ("train", "validation", "test"):
        if (votes := faces.vote_counts(split)) is None:
            raise ValueError(f"{faces.name} has no votes; join FER+'s file with --votes PATH")
        known[split], names = votes[0], votes[1]
        tops[split] = majority(known[split], names, faces.class_names)
        splits[split] = ceiling(faces.labels(split), known[split], names, faces.class_names)
        labels = faces.labels(split)
        guess = predict_labels(known["train"], faces.labels("train"), known[split])
        splits[split]["best_use"] = {"k": int((guess == labels).sum()), "n": len(labels)}
    networks, probs = [], []
    for path in checkpoints:
        probs.append(probabilities(path, faces, head, device))
        networks.append(describe_network(path, faces, head, probs[-1], tops))
    told = {
        "data": faces.identity(votes=True), "class_names": faces.class_names, "splits": splits,
        "networks": networks, "command": command_of(checkpoints, faces.name, head),
        "revision": revision(),
        "hardware": hardware(device), "date": now(),
    }  # fmt: skip
    files = [out / "results" / f"label_noise-{faces.name}.json"]
    if probs:
        from lab.datasets.cleaned import write_changes  # with `datasets`, which others do without

        listed = list_changes(faces, known, tops, probs)
        told["listed"] = {s: sum(change.split == s for change in listed) for s in LISTED}
        files.append(out / "results" / f"cleaned_labels-{faces.name}.csv")
        write_changes(files[1], listed)
    with atomic_write(files[0]) as stream:
        stream.write((json.dumps(told, indent=1) + "\n").encode())
    return files


def command_of(checkpoints: Sequence[Path], data: str, head: str) -> str:
    """The command that makes this again, without folders of this machine."""
    words = ["python experiments.py label_noise", *(f"checkpoints/{p.name}" for p in checkpoints)]
    words += [f"--data {data}", "--votes fer2013new.csv", *[f"--head {head}"] * (head != "answer")]
    return " ".join(words)


def list_changes(
    faces: Faces, known: dict[str, Tensor], tops: dict[str, Tensor], probs: list[dict[str, Tensor]]
) -> "list[Change]":
    """The suspects of the listed splits, by number."""
    from lab.datasets.cleaned import Change

    names, start = faces.class_names, 0
    changes: list[Change] = []
    for split in LISTED:
        labels, top = faces.labels(split), tops[split]
        told = torch.stack([each[split] for each in probs])  # (networks, N, classes)
        for row in suspects(labels, top, told.argmax(2), len(names)).tolist():
            better = int(top[row])
            changes.append(
                Change(start + row, split, names[int(labels[row])], names[better],
                       int(known[split][row].max()), float(told[:, row, better].mean()))
            )  # fmt: skip
        start += len(labels)
    return changes
