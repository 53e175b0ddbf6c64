"""Targets from other networks: labels mixed with the probabilities of teachers."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from expression.checkpoint import resolve_checkpoint
from expression.kept_files import is_whole, keep_file
from expression.preprocessing import Preprocess
from hf_collate import Batches, normalise
from lab import metrics
from lab.class_names import class_permutation
from lab.data import Faces, preprocess
from lab.evaluation import load_model
from lab.heads import head_targets, log_probs_of
from lab.recipe import Recipe

__all__ = ["SameView", "own_targets", "taught_targets"]


def own_targets(recipe: Recipe, faces: Faces) -> Tensor:
    """Targets of the training split (N, heads, num_classes) from labels and votes alone."""
    votes = faces.votes("train") if set(recipe.heads) - {"label"} else None
    return head_targets(recipe.heads, faces.labels("train"), votes, len(faces.class_names))


def taught_targets(recipe: Recipe, faces: Faces, rows: Tensor, device: torch.device) -> Tensor:
    """Targets mixed with teachers' probabilities, at `rows` of train; zeros elsewhere.

    Shape (N, num_classes) for one head on labels, else (N, heads, num_classes). Each head is taught
    by the teachers' heads of its name, see `log_probs_of`; "votes" by those that have it.
    Raises ValueError when no teacher teaches any head.
    """
    own, rows, paths = own_targets(recipe, faces), rows.cpu(), recipe.teacher.split(",")
    targets = torch.zeros_like(own)
    targets[rows] = own[rows]
    answers = [teach(resolve_checkpoint(path), faces, rows, device, recipe.heads) for path in paths]
    for number, head in enumerate(recipe.heads):
        if taught := [answer[head] for answer in answers if head in answer]:
            change = sum(taught) / len(taught) - own[rows, number]
            known = own[rows, number].sum(1, keepdim=True) > 0  # the face trains this head
            targets[rows, number] = own[rows, number] + recipe.teacher_weight * change * known
    if not any(answers):
        raise ValueError(f"teacher {recipe.teacher} has none of the heads {recipe.heads}")
    return targets[:, 0] if recipe.heads == ("label",) else targets


def teach(
    checkpoint: Path, faces: Faces, rows: Tensor, device: torch.device, heads: tuple[str, ...]
) -> dict[str, Tensor]:
    """A teacher's probabilities (n, num_classes) for training faces, for each head that it teaches.

    It sees each picture and its mirror image once, unaugmented; their log-probabilities are
    averaged. They are kept for the next time, in the teacher's order of classes, and returned in
    the data's. Raises ValueError when it knows other classes than the data.
    """
    teacher, rule, order = load_teacher(checkpoint, faces, device)
    weights = teacher.answer.weights
    answers = {}
    for head in heads:
        if head in weights:  # the whole answer is this head's
            teacher.answer.weights = {name: float(name == head) for name in weights}
        elif head == "votes":
            continue
        key = hashlib.sha256(checkpoint.read_bytes() + faces.fingerprint.encode())
        key.update(rows.cpu().numpy().tobytes())
        key.update(head.encode() if len(weights) > 1 else b"")
        kept = Path(".expression_cache") / f"answers-{key.hexdigest()[:20]}.pt"
        answers[head] = kept_answers(kept, teacher, faces, rule, rows, device)[:, order]
        teacher.answer.weights = weights
    return answers


def load_teacher(
    checkpoint: Path, faces: Faces, device: torch.device
) -> tuple[torch.nn.Module, Preprocess, list[int]]:
    """A teacher in eval mode, its preprocessing, and its classes in the data's order.

    Raises ValueError for other classes.
    """
    teacher, card, rule = load_model(checkpoint, device)
    order = class_permutation(card["class_names"], faces.class_names, model=f"teacher {checkpoint}")
    return teacher.to(memory_format=torch.channels_last), rule, order


def kept_answers(
    kept: Path,
    teacher: torch.nn.Module,
    faces: Faces,
    rule: Preprocess,
    rows: Tensor,
    device: torch.device,
) -> Tensor:
    """The teacher's probabilities at `rows` of train, from the file `kept` if it is whole."""
    if is_whole(kept):
        return torch.load(kept, weights_only=True)
    print(f"a teacher looks at {len(rows)} faces", flush=True)
    loader = Batches(faces.decoded(rule)["train"], 256, device=device, indices=rows.cpu())
    answers = metrics.collect(teacher, loader, device, views=2)[0].softmax(1)
    with keep_file(kept) as part:
        torch.save(answers, part)
    return answers


class SameView:
    """A training loader whose targets a teacher mixes with what it says of the very pictures shown.

    The pictures of a batch, as augmented and blended as the student gets them, are normalised by
    the teacher's own rule, and resized when its side is another. Beyer et al. 2022
    (arXiv:2106.05237): a teacher that looks at the same view teaches more than stored answers.
    Raises ValueError when a teacher knows other classes, or teaches no head.
    """

    def __init__(
        self, batches: Batches, recipe: Recipe, faces: Faces, device: torch.device,
        heads: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.batches, self.recipe, self.rows = batches, recipe, batches.rows
        self.heads = heads or recipe.heads
        self.rule, self.num_classes = preprocess(recipe), len(faces.class_names)
        self.teachers = [
            load_teacher(resolve_checkpoint(path), faces, device)
            for path in recipe.teacher.split(",")
        ]
        known = {head for teacher, *_ in self.teachers for head in teacher.answer.weights}
        if recipe.heads == ("votes",) and "votes" not in known:
            raise ValueError(f"teacher {recipe.teacher} has none of the heads {recipe.heads}")

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, targets in self.batches:
            yield images, self.taught(images, targets)

    @torch.no_grad()  # not inference_mode: what it makes cannot take part in a loss
    def taught(self, images: Tensor, targets: Tensor) -> Tensor:
        """Targets (n,), (n, classes) or (n, heads, classes) → the last two, mixed."""
        if targets.ndim == 1:
            targets = F.one_hot(targets, self.num_classes).float()
        mixed = targets.view(len(targets), -1, self.num_classes).clone()  # (n, heads, classes)
        said = [
            (teacher, teacher.forward(as_seen_by(rule, images, self.rule)), order)
            for teacher, rule, order in self.teachers
        ]
        for number, head in enumerate(self.heads):
            answers = [(log_probs_of(t, logits, head), order) for t, logits, order in said]
            if taught := [a.exp()[:, order] for a, order in answers if a is not None]:
                change = sum(taught) / len(taught) - mixed[:, number]
                known = mixed[:, number].sum(1, keepdim=True) > 0  # the face trains this head
                mixed[:, number] += self.recipe.teacher_weight * change * known
        return mixed.view_as(targets)


def as_seen_by(rule: Preprocess, images: Tensor, before: Preprocess) -> Tensor:
    """Images normalised by the rule `before` → the same pictures as `rule` wants them."""
    mean, std = (torch.tensor(v, device=images.device) for v in (before.mean, before.std))
    pixels = images * std.view(1, -1, 1, 1) + mean.view(1, -1, 1, 1)  # in [0, 1] again
    if rule.mode == "L" and before.mode == "L":
        pixels = pixels[:, :1]  # where gray was repeated, one of its channels
    elif rule.mode == "L":
        weights = torch.tensor([0.299, 0.587, 0.114], device=pixels.device)  # as Pillow does
        pixels = (pixels * weights.view(1, 3, 1, 1)).sum(1, keepdim=True)
    if pixels.shape[-1] != rule.size:
        pixels = F.interpolate(pixels, (rule.size, rule.size), mode="bilinear", antialias=True)
    return normalise(pixels, rule.mean, rule.std)
