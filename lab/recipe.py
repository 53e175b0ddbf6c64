"""A recipe: everything that a training run depends on beside the data.

Every field is an option of `experiments.py train`: its type gives the choices, the sentence below
it is the help text, and the class that it stands in is its group. A new setting belongs in one of
these groups. What each system is trained with stands in `lab.recipes`.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from augment import Augment, Mixup
from lab.heads import HEADS

__all__ = ["RENAMED", "Recipe", "with_current_names"]

# Fields by their earlier names: cards, results and recorded commands that carry them are read.
RENAMED = {
    "sides": "progressive_sizes",
    "plain_epochs": "final_unaugmented_epochs",
    "start": "init_from",
}


@dataclass(frozen=True)
class Network:
    """What is trained. On the command line: the system's name and `--arg NAME=VALUE`."""

    system: str
    """The network, by its name in `lab.models.BUILDERS`."""
    system_args: dict[str, Any] = field(default_factory=dict)
    """Arguments of the network itself, by name."""


@dataclass(frozen=True)
class Pictures:
    """What the network sees."""

    size: int = 48
    """Side of the network's square input, in pixels."""
    mode: Literal["L", "RGB"] = "L"
    """Colour mode that pictures are converted to: L is gray."""
    channels: int = 1
    """Input channels; 3 with mode L repeats gray."""
    mean: tuple[float, ...] = (0.5,)
    """Mean of the pixel values in [0, 1], one for each channel, subtracted from them."""
    std: tuple[float, ...] = (0.25,)
    """Standard deviation of the pixel values, one for each channel, that they are divided by."""
    progressive_sizes: tuple[int, ...] = ()
    """Sides of training pictures, each for an equal share of the epochs; empty: always `size`."""
    limit: int = 0
    """How many training pictures are used; 0: all."""
    limit_eval: int = 0
    """How many validation and how many test pictures are used; 0: all."""


@dataclass(frozen=True)
class Learning:
    """How the weights are fitted."""

    epochs: int = 20
    """How many times the training split is seen."""
    batch_size: int = 64
    """Pictures in one step of the optimizer."""
    shuffle_buffer: int = 0
    """For data larger than memory: pictures shuffled together; 0: all, of a stream 10,000."""
    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    """The optimizer; sgd has Nesterov momentum 0.9."""
    lr: float = 1e-3
    """Learning rate: the highest one of the schedule."""
    weight_decay: float = 1e-2
    """Weight decay: how strongly weights are pulled towards zero."""
    label_smoothing: float = 0.0
    """Share of each target that is spread evenly over all classes, in [0, 1)."""
    class_weights: bool = False
    """Let each class weigh the same in the training loss, however many pictures it has."""
    weighted_sampling: float = 0.0
    """1: every class is shown equally often; 0: as it occurs; between them: a power in between."""
    focal_gamma: float = 0.0
    """Gamma of the focal loss, which weighs faces that are answered well less; 0: cross-entropy."""
    heads: tuple[str, ...] = ("label",)
    """What each head of the network learns: label, votes (needs --votes), mean of the two."""
    further_weights: tuple[float, ...] = ()
    """Weight in the loss of the faces of each further data set (--also); empty: 1 each."""
    further_cap: int = 0
    """Most training pictures of one class that a further data set gives; 0: all."""
    prior_correction: float = 0.0
    """Share of the log class prior that is taken off the answer, which favours rare classes."""
    mixup: float = 0.0
    """Alpha of mixup: pictures and targets are blended in pairs; 0: none."""
    average: float = 0.0
    """Decay per step of averaged weights, such as 0.999; the averaged network is kept; 0: none."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the training steps; auto: a short one where the hardware is made for it."""


@dataclass(frozen=True)
class Schedule:
    """How the learning rate changes: by epoch; with onecycle by batch."""

    schedule: Literal["constant", "step", "plateau", "onecycle"] = "plateau"
    """How the rate changes; plateau looks at validation loss, onecycle has its own warm-up."""
    warmup: int = 0
    """Epochs of linear rise from almost nothing, before constant, step or plateau."""
    step_size: int = 7
    """Of step: epochs between two reductions."""
    gamma: float = 0.1
    """Of step: what the rate is multiplied by."""
    factor: float = 0.5
    """Of plateau: what the rate is multiplied by."""
    patience: int = 3
    """Of plateau: epochs without a lower validation loss before a reduction."""


@dataclass(frozen=True)
class EarlyStopping:
    """When training ends before its last epoch, and which epoch is kept."""

    stop: Literal["never", "loss", "accuracy"] = "never"
    """The validation figure that has to improve."""
    stop_patience: int = 10
    """Epochs without improvement after which training ends."""
    keep: Literal["best", "last"] = "best"
    """The epoch that is exported: the best by validation accuracy, or the last, unchosen."""


@dataclass(frozen=True)
class Start:
    """Where the weights come from, and which networks teach this one."""

    init_from: str = ""
    """A checkpoint of the same network and classes, whose weights are trained further."""
    fine_tune: bool = False
    """Train init_from (empty: the served network) on the data's own classes; network and pictures
    are those of its card."""
    weights: str = ""
    """Pretrained weights for the backbone: imagenet, or the path of a checkpoint."""
    head_epochs: int = 0
    """Epochs in which only the head of a pretrained network learns, before all of it does."""
    head_lr: float = 1e-3
    """Learning rate of these epochs."""
    teacher: str = ""
    """Checkpoints whose averaged probabilities are mixed into the targets; paths joined by ','."""
    teacher_weight: float = 0.7
    """Share of the teachers' probabilities in the targets, in [0, 1]; the rest is the label."""
    teacher_view: Literal["stored", "same"] = "stored"
    """stored: teachers see each picture once, unaugmented; same: as the student sees it."""


@dataclass(frozen=True)
class Recipe(Start, EarlyStopping, Schedule, Learning, Pictures, Network):
    """The settings of one run. Raises ValueError for a value that a field does not know."""

    augment: Augment | None = Augment(degrees=10, shift=0.05, scale=0.05)
    """Random changes of the training pictures; None shows them as they are."""
    final_unaugmented_epochs: int = 0
    """The last epochs show pictures at full size, neither turned nor moved: as sharp as in use."""

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            known, value = get_args(kind), getattr(self, name)
            if get_origin(kind) is Literal and value not in known:
                raise ValueError(f"{name} {value!r} is none of {', '.join(map(str, known))}")
        if not self.heads or len(set(self.heads)) < len(self.heads) or set(self.heads) - {*HEADS}:
            raise ValueError(f"heads {self.heads}: name some of {', '.join(HEADS)}, each once")
        if not 0 <= self.average < 1 or self.mixup < 0:
            raise ValueError(
                f"average is {self.average}, mixup {self.mixup}; the first is a decay in [0, 1), "
                "the second 0 or more"
            )
        if self.progressive_sizes and self.augment is None:
            raise ValueError(
                f"progressive_sizes {self.progressive_sizes} need `augment`, which resamples the "
                "pictures"
            )
        for name in ("size", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")

    def unaugmented(self, epoch: int) -> bool:
        """Whether an epoch is one of the last, which show pictures as they are."""
        return 0 < self.final_unaugmented_epochs >= self.epochs - epoch

    def picture_size(self, epoch: int) -> int:
        """Pixels of a training picture's side in this epoch; 0 for `size`."""
        sizes = self.progressive_sizes
        if not sizes or self.unaugmented(epoch):
            return 0
        return sizes[min(epoch * len(sizes) // self.epochs, len(sizes) - 1)]

    def augmentation_for(self, epoch: int) -> Augment | None:
        """The augmentation of this epoch. Turning and moving resample a picture, which blurs it;
        the last epochs show it as it is in use, at most mirrored, or a little brighter."""
        if self.augment is None or not self.unaugmented(epoch):
            return self.augment and replace(self.augment, side=self.picture_size(epoch))
        still = replace(self.augment, degrees=0, shift=0, scale=0, erase=0, side=0)
        return replace(still, darkness=0, blur=0, noise=0)

    def mixup_for(self, epoch: int) -> Mixup | None:
        """The blending of this epoch's pictures."""
        return Mixup(self.mixup) if self.mixup and not self.unaugmented(epoch) else None

    def teachers(self) -> list[str]:
        """The paths in `teacher`."""
        return [path for path in self.teacher.split(",") if path]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; `Recipe.from_dict` gives the recipe again."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """A recipe from plain values, those of older cards and results included."""
        named = with_current_names(values)
        given: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in named.items()
        }
        if given.get("augment") is not None:
            given["augment"] = Augment(**given["augment"])
        return cls(**given)


def with_current_names(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe's plain values as an older card or result has them, under the names of today."""
    return {RENAMED.get(name, name): value for name, value in values.items()}
