"""The cross-data matrix: networks, other people's networks and people, on several data sets.

Why: what a user meets is not the test split of the data that a network was trained on. Here every
network answers for the faces of every data set, and the answers go to results/ face by face, so
that each table (`lab.matrix_page`) follows from stored files. A crowd's votes give a further
column: the same answers, compared with the majority instead of the label.
"""

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from expression.preprocessing import Preprocess
from hf_collate import Batches
from lab import duplicates, metrics
from lab.class_names import canonical
from lab.data import Faces
from lab.data_notes import DataNotes
from lab.evaluation import load_model, measured_network, open_test, result_of, store_result
from lab.metrics import Evaluation
from lab.provenance import hardware, revision
from lab.results import (
    SPLITS,
    FaceProbabilities,
    Key,
    MeasuredNetwork,
    Result,
    Results,
    now,
)
from lab.votes import crowd_figures, leave_one_out, majority

__all__ = ["PEOPLE", "Answer", "Setup", "crowd_name", "measure", "measure_network"]

# Answers for a split of faces whose classes are the network's: logits (n, num_classes) float32.
Answer = Callable[[Faces, str], Tensor]
PEOPLE = "one_person"
VIEW = "plain"


@dataclass(frozen=True)
class Setup:
    """What is measured on, and where the figures go."""

    data_sets: tuple[Faces, ...]
    out: Path  # holds results/
    device: torch.device
    command: str  # without folders of this machine
    final: bool = False  # the test splits too

    @property
    def kept(self) -> Results:
        return Results(self.out / "results")

    @property
    def splits(self) -> tuple[str, ...]:
        return SPLITS if self.final else SPLITS[:1]


def measure(checkpoints: Sequence[Path], setup: Setup) -> list[str]:
    """Measure each checkpoint, and people where there are votes, on each data set.

    What is in results/ already is not measured again. Returns sentences on what was left out.
    Raises ValueError where two data sets have one name or one fingerprint.
    """
    prepare(setup)
    left_out = []
    for path in checkpoints:
        model, card, rule = load_model(path, setup.device)
        network = measured_network(path, model, card)
        left_out += measure_network(network, answer_of(model, rule, setup.device), setup)
    return left_out


def prepare(setup: Setup) -> None:
    """Facts about the data sets, and how people do on them."""
    for what in ("name", "fingerprint"):
        told = [getattr(faces, what) for faces in setup.data_sets]
        if twice := sorted({word for word in told if told.count(word) > 1}):
            raise ValueError(f"two data sets have the {what} {twice[0]}; each is given once")
    for faces in setup.data_sets:
        note(faces, setup)
        if faces.vote_counts("train") is not None:
            measure_people(faces, setup)


def answer_of(model: nn.Module, rule: Preprocess, device: torch.device) -> Answer:
    """A network's answers, all its heads combined as its card says."""

    def answer(faces: Faces, split: str) -> Tensor:
        loader = Batches(faces.decoded(rule)[split], 128, device=device)
        return metrics.collect(model, loader, device)[0]

    return answer


def measure_network(network: MeasuredNetwork, answer: Answer, setup: Setup) -> list[str]:
    """Every cell of a network's row. Returns a sentence for each data set that it cannot answer
    for: one with a class that it does not know."""
    left_out = []
    print(f"\n{network.name}", flush=True)
    for original in setup.data_sets:
        names = network.card["class_names"]
        try:
            faces = original.with_classes(names, network.name, subset=True)
        except ValueError as error:
            left_out.append(f"{network.name} not measured on {original.name}: {error}")
            continue
        for split in setup.splits:
            answers = cell(network, faces, split, answer, setup)
            if original.vote_counts(split) is not None:
                crowd_cell(network, faces, split, answers, setup)
    return left_out


def cell(
    network: MeasuredNetwork, faces: Faces, split: str, answer: Answer, setup: Setup
) -> FaceProbabilities:
    """A network's answers for one split, from results/ or measured now."""
    kept = setup.kept
    known = kept.find(network, Key(network.sha256, faces.fingerprint, split, VIEW))
    if known is not None and known.answers is not None:
        if known.evaluation.n != len(faces.labels(split)):
            raise ValueError(
                f"{network.name} was measured on {known.evaluation.n:,} faces of {faces.name}, "
                f"{split}, not on all {len(faces.labels(split)):,}: give another --out"
            )
        print(f"{faces.name:20} {split:10} {known.evaluation}, from results/", flush=True)
        return known.answers
    if split == "test":
        open_test(kept, network, faces, setup.command, [VIEW])
    logits, labels = answer(faces, split), faces.labels(split)
    rows = torch.arange(len(labels))
    told = metrics.evaluate(logits, labels, faces.class_names)
    result = result_of(network, faces, split, VIEW, told, setup.command, setup.device)
    print(f"{faces.name:20} ", end="")
    stored = store_result(kept, network, result, logits, labels, rows, faces)
    probs = logits.float().softmax(1).numpy()
    shared = faces.in_train[split]
    return stored.answers or FaceProbabilities.of(probs, labels, rows, shared)


# --- the crowd's majority as the label ---


def crowd_name(data: str) -> str:
    """What the column of a data set's crowd is called."""
    return f"{data}-majority"


def crowd_fingerprint(faces: Faces) -> str:
    """Of the pictures together with the votes for them."""
    digest = hashlib.sha256(faces.fingerprint.encode())
    for split in ("train", *SPLITS):
        if (counts := faces.vote_counts(split)) is not None:
            digest.update(f"\0{split}\0".encode() + counts[0].numpy().tobytes())
    return digest.hexdigest()[:16]


def crowd_cell(
    network: MeasuredNetwork, faces: Faces, split: str, answers: FaceProbabilities, setup: Setup
) -> None:
    """The same answers compared with the crowd's majority, by FER+'s rule with eight classes.

    A network that does not know contempt misses the faces whose majority says so; the figures for
    seven classes follow from the rows of the others.
    """
    names = [canonical(name) for name in faces.class_names]
    names += [name for name in ("contempt",) if name not in names]
    voted = faces.vote_counts(split)
    fingerprint, kept = crowd_fingerprint(faces), setup.kept
    key = Key(network.sha256, fingerprint, split, VIEW)
    if voted is None or kept.find(network, key) is not None:
        return
    counts = voted[0][torch.from_numpy(answers.rows).long()]
    labels = majority(counts, voted[1], names)
    rows = (labels >= 0).nonzero()[:, 0].numpy()
    probs = np.zeros((len(labels), len(names)), np.float32)
    probs[:, : answers.probabilities.shape[1]] = answers.probabilities
    theirs = FaceProbabilities.of(
        probs[rows], labels[rows], answers.rows[rows], answers.in_train[rows]
    )
    if split == "test":
        named = replace(faces, name=crowd_name(faces.name), fingerprint=fingerprint)
        open_test(kept, network, named, setup.command, [VIEW])
    told = Evaluation(theirs.confusion(), tuple(names), theirs.loss(np.arange(len(rows))))
    logits = torch.from_numpy(probs).clamp(min=1e-7).log()
    crowd = crowd_figures(logits, counts, voted[1], names)
    result = Result(key, crowd_name(faces.name), told, setup.command, revision(),
                    hardware(setup.device), now(), crowd)  # fmt: skip
    stored = kept.add(network, result, theirs)
    print(f"{stored.data:20} {split:10} {stored.evaluation}", flush=True)


# --- people ---


def measure_people(faces: Faces, setup: Setup) -> None:
    """One voter against the majority of the others, and against the label, on each split."""
    pictures = hashlib.sha256(crowd_fingerprint(faces).encode()).hexdigest()
    card = {"kind": "people", "trained_on": "–", "data": {"name": "", "fingerprint": ""}}
    network, kept = MeasuredNetwork(PEOPLE, pictures, card, 0), setup.kept
    for split in setup.splits:
        voted = faces.vote_counts(split)
        if voted is None:
            continue
        counts, vote_names = voted[0].long(), voted[1]
        names = tuple(canonical(name) for name in vote_names)
        chosen = majority(counts, vote_names, faces.class_names) >= 0
        against = {
            (crowd_name(faces.name), crowd_fingerprint(faces)): leave_one_out(
                counts[chosen], vote_names
            ),
            (faces.name, faces.fingerprint): label_answers(faces, split, counts, names),
        }
        for (data, fingerprint), each in against.items():
            key = Key(network.sha256, fingerprint, split, VIEW)
            if kept.find(network, key) is not None:
                continue
            if split == "test":
                named = replace(faces, name=data, fingerprint=fingerprint)
                open_test(kept, network, named, setup.command, [VIEW])
            result = Result(key, data, Evaluation(each.sum(0), names, math.nan), setup.command,
                            revision(), "people", now(), people_figures(each, names))  # fmt: skip
            stored = kept.add(network, result)
            print(f"{PEOPLE}: {data} {split}  {stored.evaluation}", flush=True)


def label_answers(faces: Faces, split: str, counts: Tensor, names: Sequence[str]) -> Tensor:
    """Votes as answers to the question for the label: (n, k, k), rows are labels; of the faces on
    which not everybody said that there is no face."""
    labels = torch.tensor([names.index(canonical(name)) for name in faces.class_names])
    shown = counts[:, names.index("nf")] < counts.sum(1)
    told = torch.zeros(int(shown.sum()), len(names), len(names), dtype=torch.int64)
    told[torch.arange(len(told)), labels[faces.labels(split)[shown]]] = counts[shown]
    return told


def people_figures(each: Tensor, names: Sequence[str]) -> dict[str, object]:
    """What answers (faces, k, k) tell beside their sum: faces, and 95 % intervals of the share of
    right answers, of all and `without` the answers for which contempt is right."""
    others = each.clone()
    others[:, names.index("contempt")] = 0
    faces = int((each.sum((1, 2)) > 0).sum())
    return {"faces": faces, "interval_95": ratio_interval(each),
            "interval_without": ratio_interval(others)}  # fmt: skip


def ratio_interval(each: Tensor) -> list[float]:
    """95 % interval of right answers / answers, of (faces, k, k). The answers for one face belong
    together, so the error is that of a ratio of sums over faces."""
    right, given = each.diagonal(dim1=1, dim2=2).sum(1).double(), each.sum((1, 2)).double()
    share = right.sum() / given.sum()
    error = 1.96 * (right - share * given).square().sum().sqrt() / given.sum()
    return [max((share - error).item(), 0.0), min((share + error).item(), 1.0)]


# --- facts about the data ---


def note(faces: Faces, setup: Setup) -> None:
    """Keep how many faces a data set has, what its reader left out, and which of its faces stand
    in the training split of another data set given here."""
    kept, splits = setup.kept, setup.splits
    known = kept.data_notes().get(faces.fingerprint, DataNotes(faces.name, faces.fingerprint))
    shared: dict[str, dict[str, list[int]]] = {}
    for other in setup.data_sets:
        told = known.in_training.get(other.fingerprint, {})
        if other.fingerprint == faces.fingerprint or set(splits) <= told.keys():
            continue
        training = hashes(other, "train")
        shared[other.fingerprint] = {
            split: duplicates.same_picture(training, hashes(faces, split)).nonzero()[0].tolist()
            for split in splits
        }
        for split, rows in shared[other.fingerprint].items():
            print(f"{len(rows)} {split} faces of {faces.name} are training faces of {other.name}")
    sizes = {split: len(faces.labels(split)) for split in splits}
    info = getattr(faces.splits["train"], "info", None)
    lines = (getattr(info, "description", None) or "").split("\n")
    left_out = [
        found[1] for line in lines if (found := re.match(r"([\d,]+ × [^:]*left out)", line))
    ]
    kept.add_notes(DataNotes(faces.name, faces.fingerprint, "", sizes, left_out, shared))
    if faces.vote_counts("train") is not None:
        name, mark = crowd_name(faces.name), crowd_fingerprint(faces)
        kept.add_notes(DataNotes(name, mark, pictures_of=faces.fingerprint))


def hashes(faces: Faces, split: str) -> np.ndarray:
    cache = Path(".expression_cache") / f"phash-{faces.fingerprint}-{split}.npz"
    return duplicates.hashes(faces.splits[split], cache)
