"""Several trainings from one start → one network: the weighted mean of their weights.

Why: training on worse pictures makes a network steadier there and a little worse on tidy ones. The
mean of its weights with those of a training on tidy pictures keeps most of both, for the price of
one network in use. It works because both went on from the same weights; those of unrelated
trainings have nothing in common that could be averaged.
Source: written for this project; the idea: Wortsman et al. 2022, model soups, arXiv:2203.05482.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import update_bn

from expression.checkpoint import load_checkpoint
from lab import metrics, model_card, models
from lab.averaging import statistics_batches
from lab.calibrated_checkpoint import new_checkpoint
from lab.data import Faces
from lab.export import as_saved, save_network
from lab.further_data import joined_loader
from lab.provenance import stage_of
from lab.recipe import Recipe
from lab.results import Results, file_sha256

__all__ = ["check_request", "write_average"]

ALIKE = ("system", "system_args", "class_names", "preprocess", "heads", "data", "priors")


def check_request(
    out: Path, checkpoints: Sequence[Path], shares: Sequence[float], name: str | None
) -> tuple[Path, list[float]]:
    """(the checkpoint that is written, out/checkpoints/NAME.safetensors; the shares, which add up
    to 1). Asked before data are read: that takes minutes.

    Raises ValueError for fewer than two checkpoints, for other than one positive share each (none:
    all the same), and as `new_checkpoint`.
    """
    if len(checkpoints) < 2:
        raise ValueError(f"average takes two checkpoints or more, not {len(checkpoints)}")
    shares = shares or [1.0] * len(checkpoints)
    if len(shares) != len(checkpoints) or min(shares) <= 0:
        raise ValueError(f"--shares {' '.join(f'{share:g}' for share in shares)}: give one positive"
                         f" number for each of the {len(checkpoints)} checkpoints")  # fmt: skip
    target = new_checkpoint(out, name or f"{checkpoints[0].stem}-average")
    return target, [share / sum(shares) for share in shares]


def write_average(
    checkpoints: Sequence[Path],
    shares: Sequence[float],
    faces: Faces,
    further: Sequence[Faces],
    target: Path,
    device: torch.device,
    command: str = "",
) -> None:
    """Write the network whose weights are the mean of the checkpoints' with these shares.

    The data are those that all of them trained on: BatchNorm's statistics are taken anew from
    training faces. The card tells every training, and the shares. Raises ValueError where networks,
    data or starts differ.
    """
    told = [load_checkpoint(path) for path in checkpoints]
    cards = [card for _, card in told]
    check_alike(checkpoints, cards, faces, further)
    model = models.restore(*told[0])
    states = [models.as_tensors(state) for state, _ in told]
    model.load_state_dict({name: mean([s[name] for s in states], shares) for name in states[0]})
    recipe = Recipe.from_dict(cards[-1]["recipe"])
    loaders = faces.batches(recipe, 0, device)
    train = loaders["train"]
    update_bn(statistics_batches(joined_loader(train, recipe, further) if further else train),
              model.to(device), device)  # fmt: skip
    members: list[dict[str, Any]] = [
        {"name": path.stem, "sha256": file_sha256(path), "share": round(share, 6)}
        for path, share in zip(checkpoints, shares, strict=True)
    ]
    earlier = [stage_of(card, one["sha256"]) for card, one in zip(cards, members, strict=True)]
    card = {**cards[-1], "stages": [*cards[-1]["stages"], *earlier[:-1]], "temperature": 1.0,
            "averaged": {"members": members, "command": command}}  # fmt: skip
    for name in ("calibration", "min_confidence", "test"):  # of another answer
        card.pop(name, None)
    logits, labels = metrics.collect(as_saved(model), loaders["validation"], device)
    card["validation"] = metrics.evaluate(logits, labels, faces.class_names).for_card()
    save_network(target, model, card, half=True)
    model_card.write(target, Results(target.parent.parent / "results"))


def mean(values: Sequence[torch.Tensor], shares: Sequence[float]) -> torch.Tensor:
    """The weighted mean of tensors of one shape; of whole numbers, which count, the first."""
    if not values[0].is_floating_point():
        return values[0]
    total = sum(share * value.double() for share, value in zip(shares, values, strict=True))
    return torch.as_tensor(total).to(values[0].dtype)


def check_alike(
    checkpoints: Sequence[Path], cards: Sequence[dict[str, Any]], faces: Faces,
    further: Sequence[Faces],
) -> None:  # fmt: skip
    """Raises ValueError naming what differs between checkpoints, their starts or their data."""
    first = cards[0]
    for path, card in zip(checkpoints, cards, strict=True):
        if other := [key for key in ALIKE if card.get(key) != first.get(key)]:
            raise ValueError(f"{path} and {checkpoints[0]} differ in {', '.join(other)}")
        starts = [one["stages"][-1]["sha256"] if one.get("stages") else "" for one in (first, card)]
        if not starts[0] or starts[0] != starts[1]:
            raise ValueError(
                f"{path} and {checkpoints[0]} did not go on from one checkpoint (--init-from); the "
                "mean of their weights would know nothing"
            )
    known = [first["data"]["fingerprint"]]
    known += [one["fingerprint"] for one in first["data"].get("further", ())]
    if known != [each.fingerprint for each in (faces, *further)]:
        raise ValueError(f"{checkpoints[0]} trained on other data than --data and --also name")
