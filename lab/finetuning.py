"""From a checkpoint to a network for somebody's own faces and own classes: the weights.

Why: a folder of one's own has a few hundred pictures, and often other classes than the network that
is served. Trained from nothing it would learn little; so all weights of the trunk are kept, and of
the last layer those of the classes that both have, by name. A class that the network did not know
starts from random weights.
Source: written for this project; new classes on kept features as in Donahue et al. 2014,
arXiv:1310.1531.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from lab import models
from lab.class_names import canonical

__all__ = ["fitted_weights"]


def fitted_weights(
    state: dict[str, Tensor],
    card: dict[str, Any],
    model: nn.Module,
    class_names: Sequence[str],
    heads: Sequence[str],
) -> dict[str, Tensor]:
    """A checkpoint's weights for `model`, the same network with other classes and heads.

    A class has the weights of the checkpoint's class of the same name, and those of `model` where
    there is none. Each head starts from the checkpoint's head of its name; from "label" where it
    has none of that name, or from the one that counts most in its answer. Prints what was taken.
    """
    weights = card.get("heads", {"label": 1.0})
    theirs = list(weights)
    usual = "label" if "label" in weights else max(theirs, key=lambda head: weights[head])
    known = {canonical(name): index for index, name in enumerate(card["class_names"])}
    filled = dict(state)
    for name in class_parameters(card, len(state)):
        fresh = model.state_dict()[name].clone().unflatten(0, (len(heads), len(class_names)))
        rows = state[name].unflatten(0, (len(theirs), len(card["class_names"])))
        for place, head in enumerate(heads):
            from_head = rows[theirs.index(head if head in weights else usual)]
            for index, word in enumerate(class_names):
                if canonical(word) in known:
                    fresh[place, index] = from_head[known[canonical(word)]]
        filled[name] = fresh.flatten(0, 1)
    print(words(card["class_names"], class_names, theirs, usual))
    return filled


def class_parameters(card: dict[str, Any], tensors: int) -> list[str]:
    """Names of the parameters whose rows are classes: those that one class more makes longer.
    `tensors` are those of the checkpoint's file."""
    shapes = [
        {name: value.shape for name, value in outline.state_dict().items()}
        for outline in (models.outline_of(card, tensors, further) for further in (0, 1))
    ]
    return [name for name, shape in shapes[0].items() if shapes[1][name] != shape]


def words(theirs: Sequence[str], ours: Sequence[str], heads: Sequence[str], head: str) -> str:
    """What a network keeps of the one that it starts from, in a sentence."""
    known = {canonical(name) for name in theirs}
    kept = [name for name in ours if canonical(name) in known]
    new = [name for name in ours if name not in kept]
    dropped = [name for name in theirs if canonical(name) not in {canonical(n) for n in ours}]
    parts = [f"kept by name: {', '.join(kept) or 'no class'}"]
    parts += [f"new, from random weights: {', '.join(new)}"] if new else []
    parts += [f"given up: {', '.join(dropped)}"] if dropped else []
    parts += [f"of its heads {', '.join(heads)}: {head}"] if len(heads) > 1 else []
    return f"Fine-tuning keeps the trunk; classes {'; '.join(parts)}"
