"""Targets from other networks: labels mixed with the probabilities of teachers."""

import hashlib
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from hf_collate import Batches
from insight import metrics
from lab.data import Faces
from lab.evaluation import load_model, resolve_checkpoint
from lab.recipes import Recipe

__all__ = ["taught_targets"]


def taught_targets(recipe: Recipe, faces: Faces, rows: Tensor, device: torch.device) -> Tensor:
    """Targets (N, num_classes): labels mixed with teachers' probabilities, at `rows` of train."""
    labels = nn.functional.one_hot(faces.labels("train"), len(faces.class_names)).float()
    teachers = recipe.teacher.split(",")
    taught = sum(teach(Path(resolve_checkpoint(path)), faces, rows, device) for path in teachers)
    targets, rows = torch.zeros_like(labels), rows.cpu()
    change = taught / len(teachers) - labels[rows]
    targets[rows] = labels[rows] + recipe.teacher_weight * change
    return targets


def teach(checkpoint: Path, faces: Faces, rows: Tensor, device: torch.device) -> Tensor:
    """A teacher's probabilities (n, num_classes) for training faces, kept for the next time.

    It sees each picture and its mirror image once, unaugmented; their log-probabilities are
    averaged. Raises ValueError when it knows other classes than the data.
    """
    try:
        teacher, _, rule = load_model(checkpoint, device, faces.class_names)
    except ValueError as error:
        raise ValueError(f"teacher {error}") from error
    key = hashlib.sha256(checkpoint.read_bytes() + faces.fingerprint.encode())
    key.update(rows.cpu().numpy().tobytes())
    kept = Path(".expression_cache") / f"answers-{key.hexdigest()[:20]}.pt"
    if kept.exists():
        return torch.load(kept, weights_only=True)
    print(f"teacher {checkpoint.name} looks at {len(rows)} faces", flush=True)
    teacher = teacher.to(memory_format=torch.channels_last)
    loader = Batches(faces.decoded(rule)["train"], 256, device=device, indices=rows.cpu())
    answers = metrics.collect(teacher, loader, device, views=2)[0].softmax(1)
    kept.parent.mkdir(exist_ok=True)
    part = kept.with_suffix(f".{os.getpid()}.tmp")
    torch.save(answers, part)
    part.replace(kept)
    return answers
