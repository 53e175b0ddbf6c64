"""One recipe a system; where another project published it, its settings are the defaults.

A recipe's name is the name of its run, `system` the network it trains.
"""

from dataclasses import replace
from typing import Any

from augment import Augment
from lab.recipe import Recipe
from transfer import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["QUICK", "RECIPES", "quick"]

_attention = Recipe(
    "attention_cnn", epochs=50, class_weights=True, stop="accuracy", stop_patience=10
)
_vit = replace(
    _attention, system="vit_tiny", epochs=100, lr=5e-5, warmup=5, stop_patience=20,
    system_args={"size": 48, "patch": 8},
)  # fmt: skip
_TAUGHT_NETWORK = "checkpoints/expression-fer2013.safetensors"  # of `expression_taught`
_rgb: dict[str, Any] = {"channels": 3, "mean": IMAGENET_MEAN, "std": IMAGENET_STD}

_expression = Recipe(
    "resnet9", system_args={"widths": [64, 128, 256], "residuals": [0, 1, 1]},
    optimizer="sgd", lr=0.15, weight_decay=5e-4, batch_size=128, epochs=18,
    schedule="onecycle", label_smoothing=0.05, progressive_sizes=(32, 32, 40, 48),
    final_unaugmented_epochs=2, teacher_weight=0.5,
    augment=Augment(degrees=12, shift=0.06, scale=0.08),
)  # fmt: skip

_small = Recipe(
    "resnet9", system_args={"stem": 16, "widths": [32, 64, 128], "residuals": [0, 1, 1]},
    size=40, optimizer="sgd", lr=0.15, weight_decay=4e-4, batch_size=128, epochs=60,
    schedule="onecycle", progressive_sizes=(32, 40), final_unaugmented_epochs=3,
    teacher_weight=0.6,
    augment=Augment(degrees=12, shift=0.06, scale=0.08),
)  # fmt: skip
# Long trainings, minutes on a GPU and days on two cores: averaged weights, mixup, strong changes of
# the pictures, and the last epoch kept, so that none is chosen
_long: dict[str, Any] = {
    "optimizer": "sgd", "lr": 0.1, "weight_decay": 5e-4, "batch_size": 128, "epochs": 100,
    "schedule": "onecycle", "label_smoothing": 0.1, "average": 0.999, "mixup": 0.2,
    "progressive_sizes": (), "final_unaugmented_epochs": 3, "keep": "last",
    "augment": Augment(degrees=15, shift=0.08, scale=0.1, erase=0.3),
}  # fmt: skip
_wide = replace(
    _expression, **_long | {"epochs": 60},
    system_args={"widths": [128, 256, 512], "residuals": [0, 1, 1]},
)  # fmt: skip
# Two wide networks beside the labels, which then need no smoothing
_taught: dict[str, Any] = {
    "teacher": "checkpoints/expression_wide-fer2013.safetensors,"
    "checkpoints/expression_wide-fer2013-seed1.safetensors",
    "teacher_view": "same", "teacher_weight": 0.7, "label_smoothing": 0.0,
}  # fmt: skip
# from a network of FER2013's labels to one with a head for each source
_joined: dict[str, Any] = {
    "heads": ("label", "votes"), "further_cap": 2000, "lr": 0.02, "label_smoothing": 0.0,
    "average": 0.998, "final_unaugmented_epochs": 0, "keep": "last", "teacher_weight": 0.7,
    "augment": Augment(degrees=12, shift=0.06, scale=0.08, erase=0.25),
}  # fmt: skip

_expression_joined = replace(
    _expression, **_joined, progressive_sizes=(40, 48), epochs=8, init_from=_TAUGHT_NETWORK
)

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
    # FER2013's labels alone: the comparison with the literature
    "expression": _expression,
    "expression_wide": _wide,
    "expression_taught": replace(_expression, **_long | _taught),
    # a second generation: taught by the small one that two of its kind have taught
    "expression_wide_taught": replace(_wide, **_taught | {"teacher": _TAUGHT_NETWORK}),
    # FER+'s votes alone, from random weights: the yardstick of the crowd
    "expression_votes": replace(_wide, heads=("votes",), label_smoothing=0.0),
    # what the demo serves is the mean of these two: both go on from `expression`, with the crowd's
    # votes and further data sets; one sees the pictures as bad cameras make them
    "expression_joined": _expression_joined,
    "expression_joined_worse": replace(
        _expression_joined, epochs=16, lr=0.04,
        augment=replace(_joined["augment"], darkness=0.9, blur=0.04, noise=0.15),
    ),
    # a folder of one's own, from the served network: network and pictures are its card's. By the
    # few validation faces of a folder a best epoch would be chosen by luck, so the last is kept
    "finetune": Recipe(
        "resnet9", fine_tune=True, optimizer="sgd", lr=0.005, weight_decay=5e-4, batch_size=32,
        epochs=20, schedule="onecycle", keep="last",
        augment=Augment(degrees=12, shift=0.06, scale=0.08),
    ),
    # as `expression`, for a machine that has little time for a face
    "expression_small": _small,
    # twice the epochs of `expression_joined`: each takes a quarter of the time
    "expression_small_joined": replace(
        _small, **_joined, progressive_sizes=(), epochs=16,
        init_from="checkpoints/expression_small-fer2013.safetensors",
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
    # from random weights: small convolutions in place of the patch filter, and a teacher
    "vit_tiny_distilled": Recipe(
        "vit_tiny", {"size": 48, "patch": 8, "stem": "conv", "drop_path": 0.1},
        **_long | _taught | {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.05, "epochs": 75,
                             "batch_size": 256, "teacher": _TAUGHT_NETWORK},
    ),
}  # fmt: skip

# `--quick`: a look at every system on two cores, not a result. Fewer pictures and passes, and a
# rate that falls to nothing within them, which the published settings leave to later epochs.
QUICK: dict[str, Any] = {
    "limit": 2000, "limit_eval": 500, "epochs": 3, "schedule": "onecycle", "stop": "never",
    "warmup": 0, "class_weights": False,
}  # fmt: skip


def quick(recipe: Recipe) -> Recipe:
    """The recipe of a `--quick` run; one without epochs (`hog_svm`) only sees fewer pictures."""
    if not recipe.epochs:
        return replace(recipe, limit=QUICK["limit"], limit_eval=QUICK["limit_eval"])
    return replace(recipe, **QUICK, head_epochs=min(recipe.head_epochs, 1))
