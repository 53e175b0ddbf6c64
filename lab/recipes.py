"""One recipe a system: everything that a training run depends on beside the data.

The defaults are the published settings of each system; every field can be set from the
command line. A recipe's name is the name of its run, `system` the network it trains.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from hf_collate import Augment
from lab.heads import HEADS
from transfer import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["QUICK", "RECIPES", "Recipe"]

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "step", "plateau", "onecycle")
STOPS = ("never", "loss", "accuracy")
TEACHER_VIEWS = ("stored", "same")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Recipe:
    """The settings of one run. Raises ValueError for a word that no field knows."""

    system: str
    system_args: dict[str, Any] = field(default_factory=dict)
    # pictures
    size: int = 48
    mode: str = "L"
    channels: int = 1
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    augment: Augment | None = Augment(degrees=10, shift=0.05, scale=0.05)
    sides: tuple[int, ...] = ()  # training pictures grow: each side for an equal share of epochs
    plain_epochs: int = 0  # the last ones: full size, not turned or moved, as sharp as in use
    limit: int = 0  # training pictures, 0 for all
    limit_eval: int = 0  # validation and test pictures, 0 for all
    # learning
    epochs: int = 20
    batch_size: int = 64
    optimizer: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-2
    label_smoothing: float = 0.0
    class_weights: bool = False  # each class weighs the same in the training loss
    heads: tuple[str, ...] = ("label",)  # what each head learns: label, votes, or mean of both
    prior_correction: float = 0.0  # share of the log class prior that is taken off the answer
    mixup: float = 0.0  # alpha: pictures and targets are blended in pairs; 0 for none
    average: float = 0.0  # decay a step of the averaged weights, such as 0.999; 0 for none
    precision: str = "auto"  # bfloat16 or float16 where the hardware is made for it
    # learning rate by epoch (onecycle: by batch)
    schedule: str = "plateau"
    warmup: int = 0  # epochs of linear rise from almost nothing
    step_size: int = 7
    gamma: float = 0.1  # of step
    factor: float = 0.5  # of plateau
    patience: int = 3  # of plateau: epochs without a lower validation loss
    # early stopping
    stop: str = "never"
    stop_patience: int = 10
    # a pretrained start, and a teacher
    start: str = ""  # a checkpoint of this very network and these classes: it goes on learning
    weights: str = ""  # "imagenet" or a checkpoint's path
    head_epochs: int = 0  # of the head alone, before everything is set free
    head_lr: float = 1e-3
    teacher: str = ""  # a checkpoint's path, or several joined by commas: they are averaged
    teacher_weight: float = 0.7  # share of its probabilities in the targets
    teacher_view: str = "stored"  # it sees each face once, unaugmented; "same": as the student does

    def __post_init__(self) -> None:
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("stop", STOPS),
            ("precision", PRECISIONS),
            ("teacher_view", TEACHER_VIEWS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is none of {', '.join(known)}")
        if not self.heads or len(set(self.heads)) < len(self.heads) or set(self.heads) - {*HEADS}:
            raise ValueError(f"heads {self.heads}: name some of {', '.join(HEADS)}, each once")
        if not 0 <= self.average < 1 or self.mixup < 0:
            raise ValueError(
                f"average is {self.average}, mixup {self.mixup}; the first is a decay in [0, 1), "
                "the second 0 or more"
            )
        if self.sides and self.augment is None:
            raise ValueError(f"sides {self.sides} need `augment`, which resamples the pictures")
        for name in ("size", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")

    def plain(self, epoch: int) -> bool:
        """Whether an epoch is one of the last, which show pictures as they are."""
        return 0 < self.plain_epochs >= self.epochs - epoch

    def side(self, epoch: int) -> int:
        """Pixels of a training picture's side in this epoch; 0 for `size`."""
        if not self.sides or self.plain(epoch):
            return 0
        return self.sides[min(epoch * len(self.sides) // self.epochs, len(self.sides) - 1)]

    def changes(self, epoch: int) -> Augment | None:
        """The augmentation of this epoch. Turning and moving resample a picture, which blurs it;
        the last epochs show it as it is in use, at most mirrored, lighter or darker."""
        if self.augment is None or not self.plain(epoch):
            return self.augment and replace(self.augment, side=self.side(epoch))
        return replace(self.augment, degrees=0, shift=0, scale=0, erase=0, side=0)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; `Recipe.from_dict` gives the recipe again."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        if given.get("augment") is not None:
            given["augment"] = Augment(**given["augment"])
        return cls(**given)


_attention = Recipe(
    "attention_cnn", epochs=50, class_weights=True, stop="accuracy", stop_patience=10
)
_vit = replace(
    _attention, system="vit_tiny", epochs=100, lr=5e-5, warmup=5, stop_patience=20,
    system_args={"size": 48, "patch": 8},
)  # fmt: skip
_rgb = {"channels": 3, "mean": IMAGENET_MEAN, "std": IMAGENET_STD}

RECIPES = {
    # C, gamma and the size of the PCA were chosen on FER2013's validation split
    "hog_svm": Recipe(
        "hog_svm", augment=None, epochs=0,
        system_args={"components": 128, "C": 3.0, "gamma": 0.003},
    ),
    "baseline_cnn": replace(_attention, system="baseline_cnn"),
    "custom_cnn": Recipe("custom_cnn", epochs=50, stop="loss"),
    "attention_cnn": _attention,
    "tinyvgg": Recipe(
        "tinyvgg", optimizer="sgd", lr=0.05, weight_decay=5e-4, batch_size=128,
        schedule="onecycle", label_smoothing=0.1, system_args={"hidden_channels": 16},
    ),
    "gray_resnet": Recipe(
        "gray_resnet", system_args={"stem": "stock"}, optimizer="adam", weight_decay=0.0,
        schedule="step", augment=Augment(degrees=10, shift=0.05, scale=0.05, brightness=0,
                                         contrast=0),
    ),
    "resnet18": Recipe(
        "resnet18", size=64, **_rgb, optimizer="sgd", lr=0.05, weight_decay=5e-4, batch_size=128,
        epochs=12, schedule="onecycle", label_smoothing=0.1,
        augment=Augment(degrees=12, shift=0.06, scale=0.08),
    ),
    # what the demo serves: chosen on FER2013's validation split
    "expression": Recipe(
        "resnet9", system_args={"widths": [64, 128, 256], "residuals": [0, 1, 1]},
        optimizer="sgd", lr=0.15, weight_decay=5e-4, batch_size=128, epochs=18,
        schedule="onecycle", label_smoothing=0.05, sides=(32, 32, 40, 48), plain_epochs=2,
        teacher_weight=0.5,
        augment=Augment(degrees=12, shift=0.06, scale=0.08),
    ),
    # the same for a machine that has little time for a face
    "expression_small": Recipe(
        "resnet9", system_args={"stem": 16, "widths": [32, 64, 128], "residuals": [0, 1, 1]},
        size=40, optimizer="sgd", lr=0.15, weight_decay=4e-4, batch_size=128, epochs=60,
        schedule="onecycle", sides=(32, 40), plain_epochs=3, teacher_weight=0.6,
        augment=Augment(degrees=12, shift=0.06, scale=0.08),
    ),
    "face_transfer": Recipe(
        "resnet18", size=64, **_rgb, epochs=12, head_epochs=3, lr=3e-4, stop="loss",
        stop_patience=5, weights="checkpoints/resnet18-fer2013.safetensors",
    ),
    "transfer": Recipe(
        "efficientnet_lite0", size=96, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3, epochs=12,
        weights="imagenet", head_epochs=3, lr=3e-4, stop="loss", stop_patience=5,
    ),
    "vit_tiny": _vit,
    "vit_tiny_distilled": replace(_vit, teacher="checkpoints/resnet18-fer2013.safetensors"),
}  # fmt: skip

# `--quick`: a look at every system on two cores, not a result. Fewer pictures and passes, and a
# rate that falls to nothing within them, which the published settings leave to later epochs.
QUICK: dict[str, Any] = {
    "limit": 2000, "limit_eval": 500, "epochs": 3, "schedule": "onecycle", "stop": "never",
    "warmup": 0, "class_weights": False,
}  # fmt: skip
