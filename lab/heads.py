"""Several heads on one trunk: one linear layer gives logits for each kind of target.

Why: FER2013's labels and a crowd's votes name another expression for one face in three. With a
head for each, both train the same trunk and neither spoils the other. While it trains, a network
gives the logits of all heads side by side, (N, heads · classes); in eval mode it gives one answer
(N, classes), made of the heads as its checkpoint's card says. So whatever evaluates or serves a
checkpoint needs to know nothing of heads.
Source: written for this project. Needs only torch; copy freely (MIT, see LICENSE).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "HEADS",
    "CombinedAnswer",
    "HeadLoss",
    "attach",
    "class_priors",
    "fill_heads",
    "focal_factor",
    "hard_labels",
    "head_targets",
    "log_probs_of",
]

# What a head learns: the data set's label, the crowd's votes, or the mean of the two.
HEADS = ("label", "votes", "mean")
LEAST_PRIOR = 1e-4  # of a class that training never showed: its logarithm must be a number


@dataclass
class CombinedAnswer:
    """Forward hook: logits of all heads (N, heads · classes) → one answer (N, classes).

    The answer is the weighted mean of the heads' log-probabilities; from each of them
    `prior_correction` · log(prior of the class in that head's training targets) is taken away
    first, which favours rare classes. In training mode logits pass as they are.
    A hook and no wrapper, so that the weights keep their names.
    """

    weights: dict[str, float]  # of each head, in the order of the logits
    priors: dict[str, list[float]] = field(default_factory=dict)
    prior_correction: float = 0.0

    def __call__(self, model: nn.Module, _: Any, logits: Tensor) -> Tensor:
        return logits if model.training else self.combine(logits)

    def combine(self, logits: Tensor) -> Tensor:
        log_probs = split_heads(logits, len(self.weights)).log_softmax(2)  # (N, heads, classes)
        if self.prior_correction:
            priors = log_probs.new_tensor([self.priors[head] for head in self.weights])
            log_probs = log_probs - self.prior_correction * priors.clamp(min=LEAST_PRIOR).log()
        shares = log_probs.new_tensor(list(self.weights.values()))
        return (log_probs * (shares / shares.sum())[:, None]).sum(1)


def split_heads(logits: Tensor, heads: int) -> Tensor:
    """(N, heads · classes) → (N, heads, classes)."""
    return logits.unflatten(1, (heads, -1))


def attach(model: nn.Module, card: dict[str, Any]) -> nn.Module:
    """Let a network answer as its card says; one with a single head and no correction is unchanged.

    The card's `heads` gives the weight of each head by name, `prior_correction` and `priors` what
    `CombinedAnswer` needs; a card without them is of one head, "label". Raises ValueError for a
    correction without priors.
    """
    answer = CombinedAnswer(
        card.get("heads", {"label": 1.0}), card.get("priors", {}), card.get("prior_correction", 0.0)
    )
    if answer.prior_correction and (missing := answer.weights.keys() - answer.priors.keys()):
        raise ValueError(f"prior_correction needs the priors of {sorted(missing)} in the card")
    model.answer = answer
    if len(answer.weights) > 1 or answer.prior_correction:
        model.register_forward_hook(answer)
    return model


def log_probs_of(model: nn.Module, logits: Tensor, head: str) -> Tensor | None:
    """What a network says for one head, (N, classes), from the logits that `model.forward` gives.

    A network without a head of this name answers for "label" and "mean" with its one answer; for
    any other, such as "votes", it knows none: None.
    """
    names = list(model.answer.weights)
    if head in names:
        return split_heads(logits, len(names))[:, names.index(head)].log_softmax(1)
    return model.answer.combine(logits).log_softmax(1) if head in ("label", "mean") else None


def head_targets(
    heads: Sequence[str], labels: Tensor, votes: Tensor | None, num_classes: int
) -> Tensor:
    """Labels (N,) and votes (N, classes) as probabilities → targets (N, heads, classes).

    A row of zeros is no target. A face without votes has none for "votes"; for "mean" it has its
    label. `votes` may be None where no head needs them.
    """
    label = nn.functional.one_hot(labels, num_classes).float()
    targets = {"label": label}
    if votes is not None:
        voted = votes.sum(1, keepdim=True) > 0
        targets |= {"votes": votes, "mean": torch.where(voted, (label + votes) / 2, label)}
    return torch.stack([targets[head] for head in heads], dim=1)


def hard_labels(targets: Tensor) -> Tensor:
    """Targets (N,), (N, classes) or (N, heads, classes) → class indices (N,); of several heads,
    those of the first one that a face has a target for."""
    if targets.ndim == 3:
        first = (targets.sum(2) > 0).int().argmax(1)
        targets = targets[torch.arange(len(targets), device=targets.device), first]
    return targets.argmax(1) if targets.ndim == 2 else targets


def class_priors(heads: Sequence[str], targets: Tensor) -> dict[str, list[float]]:
    """Share of each class in the training targets (N, heads, classes), head by head."""
    sums = targets.double().sum(0)
    shares = sums / sums.sum(1, keepdim=True).clamp(min=1e-12)
    return {
        head: [round(x, 6) for x in row.tolist()] for head, row in zip(heads, shares, strict=True)
    }


def fill_heads(
    state: dict[str, Tensor], model: nn.Module, theirs: Sequence[str], ours: Sequence[str]
) -> dict[str, Tensor]:
    """A checkpoint's weights for a network whose heads differ: each head starts from the head of
    its name, or else from the first one. The trunk's weights stay as they are.
    """
    filled = dict(state)
    for name, wanted in model.state_dict().items():
        if name in state and state[name].shape != wanted.shape:
            parts = state[name].chunk(len(theirs))
            chosen = [theirs.index(head) if head in theirs else 0 for head in ours]
            filled[name] = torch.cat([parts[k] for k in chosen])
    return filled


def focal_factor(log_probs: Tensor, gamma: float) -> Tensor:
    """(1 - p) ** gamma of each probability, given as its logarithm (Lin et al. 2017, focal loss,
    arXiv:1708.02002): the surer an answer, the less it weighs.

    1 - p is taken as at least 1e-6: at 0 the gradient of a power below 1 is infinite.
    """
    return (-log_probs.expm1()).clamp(min=1e-6).pow(gamma)


class HeadLoss(nn.Module):
    """Cross-entropy of logits (N, heads · classes) with targets (N, heads, classes), in nats.

    For one head targets may also be labels (N,) int64 or probabilities (N, classes).

    The mean over all pairs of a face and a head that have a target, weighted by its sum (1 for
    probabilities): where a row of `targets` is zero, the face does not train that head.
    `class_weights` (classes,) and `label_smoothing` as in `nn.CrossEntropyLoss` with probabilities.
    `focal_gamma` above 0 makes it the focal loss, where each class gives the term
    target · (1 - p) ** gamma · -log p, see `focal_factor`.
    """

    def __init__(
        self,
        class_weights: Tensor | None = None,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights)
        self.label_smoothing, self.focal_gamma = label_smoothing, focal_gamma

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        if targets.ndim == 1:
            targets = nn.functional.one_hot(targets, logits.shape[1]).to(logits.dtype)
        if targets.ndim == 2:
            targets = targets[:, None]
        mass = targets.sum(2, keepdim=True)  # 1, or the face's weight; 0 without a target
        smooth = self.label_smoothing
        aims = (1 - smooth) * targets + smooth * mass / targets.shape[2]
        if self.class_weights is not None:
            aims = aims * self.class_weights
        log_probs = split_heads(logits, targets.shape[1]).log_softmax(2)
        if self.focal_gamma:
            aims = aims * focal_factor(log_probs, self.focal_gamma)
        return -(aims * log_probs).sum() / mass.sum().clamp(min=1e-8)
