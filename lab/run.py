"""One run: a recipe on a data set with a seed, and where it writes."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expression.checkpoint import read_card, resolve_checkpoint
from lab.data import Faces, preprocess
from lab.further_data import all_heads, data_name, identities, joined_targets
from lab.heads import class_priors, hard_labels
from lab.processes import ALONE, Processes
from lab.provenance import learnt_from, revision, stages, versions
from lab.recipe import Recipe
from lab.sampling import class_sampling_weights

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """One recipe on one data set with one seed, and where it writes."""

    name: str  # of the recipe
    recipe: Recipe
    faces: Faces
    seed: int
    device: torch.device
    folder: Path  # runs/<timestamp>/<experiment>/<model>/<extra>
    out: Path  # holds checkpoints/ and results/
    command: str
    further: tuple[Faces, ...] = ()  # data sets that are trained on too
    processes: Processes = ALONE  # that train it together

    @property
    def stem(self) -> str:
        """File name of the checkpoint and of everything measured on it."""
        data = data_name(self.faces, self.further)
        return f"{self.name}-{data}" + (f"-seed{self.seed}" if self.seed else "")

    @property
    def heads(self) -> tuple[str, ...]:
        """What the network learns: the recipe's heads, and one for each further data set."""
        return all_heads(self.recipe, self.further)

    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoints" / f"{self.stem}.safetensors"

    def check_output(self) -> None:
        """ValueError where the checkpoint exists already: an exported network is not replaced."""
        path = self.checkpoint
        if not path.exists():
            return
        start = self.recipe.init_from
        begins = start and resolve_checkpoint(start).resolve() == path.resolve()
        reason = "the run starts from it" if begins else "an exported network is never replaced"
        raise ValueError(
            f"this run would write {path}, which exists, and {reason}. Choose another folder "
            "(--out), seed (--seed) or data name (--name), or move the file away"
        )

    def check_classes(self) -> None:
        """ValueError where all training faces have one label: any network is right on them."""
        present = self.faces.labels("train").unique().tolist()
        if len(present) < 2:
            names = ", ".join(self.faces.class_names[index] for index in present)
            raise ValueError(
                f"all training faces of {self.faces.name} are labelled {names}; training needs two "
                "classes or more"
            )

    def lacks_votes(self) -> bool:
        """Whether a head learns from votes and the data have none."""
        return set(self.recipe.heads) > {"label"} and self.faces.vote_counts("train") is None

    def knows_data(self) -> bool:
        """Whether the pretrained weights were learnt on this very data set."""
        if self.recipe.weights in ("", "imagenet"):
            return False
        path = resolve_checkpoint(self.recipe.weights)
        if path.suffix != ".safetensors" or not path.is_file():
            return False
        return read_card(path)["data"]["fingerprint"] == self.faces.fingerprint

    def settings(self) -> dict[str, Any]:
        """What must be the same when a run is gone on with."""
        told = {"recipe": self.recipe.as_dict(), "fingerprint": self.faces.fingerprint,
                "seed": self.seed}  # fmt: skip
        told |= {"streamed": True} if self.faces.streamed else {}
        votes = self.faces.identity(votes=self.recipe.heads != ("label",)).get("votes")
        told |= {"votes": votes} if votes else {}
        return told | ({"further": identities(self.further)} if self.further else {})

    @cached_property
    def targets(self) -> Tensor:
        """Targets (N, heads, num_classes) of all training faces, before any teacher."""
        return joined_targets(self.recipe, self.faces, self.further)

    def priors(self) -> dict[str, list[float]]:
        """Share of each class among the targets that training shows, head by head."""
        if self.heads == ("label",) and not self.recipe.weighted_sampling:
            counts = self.faces.labels("train").bincount(minlength=len(self.faces.class_names))
            return class_priors(self.heads, counts[None, None])
        targets = self.targets
        if power := self.recipe.weighted_sampling:
            shown = class_sampling_weights(hard_labels(targets), power)
            targets = targets * shown[:, None, None]
        return class_priors(self.heads, targets)

    def card(self, model_args: dict[str, Any]) -> dict[str, Any]:
        """What the checkpoint says of itself before anything is measured."""
        data = self.faces.identity(votes=self.recipe.heads != ("label",))
        return {
            "system": self.recipe.system,
            "system_args": model_args,
            "class_names": self.faces.class_names,
            "preprocess": preprocess(self.recipe).settings(),
            "temperature": 1.0,
            "crop": self.faces.crop,
            "data": data | ({"further": identities(self.further)} if self.further else {}),
            "seed": self.seed,
            "versions": versions(),
            "command": self.command,
            "recipe": self.recipe.as_dict(),
            "revision": revision(),
            "learnt_from": learnt_from(self.recipe),
            "stages": stages(self.recipe),
            "heads": dict.fromkeys(self.heads, 1.0),  # their weights in the answer
            "priors": self.priors(),
            "prior_correction": self.recipe.prior_correction,
        }
