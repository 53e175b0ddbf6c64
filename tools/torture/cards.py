"""A card with every key that the project reads, to be broken."""

from typing import Any

__all__ = ["SIZE", "card"]

SIZE = 16  # pixels of the pictures that its network takes


def card(system: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """A card with every key that is read."""
    return {
        "system": system,
        "system_args": arguments,
        "class_names": ["happy", "neutral", "sad"],
        "preprocess": {"size": SIZE, "mode": "L", "channels": 1, "mean": [0.5], "std": [0.25],
                       "resize": "squash"},
        "data": {"name": "drawn", "fingerprint": "0123456789abcdef",
                 "further": [{"name": "more", "fingerprint": "fedcba9876543210"}]},
        "crop": {"centre_x": 0.5, "centre_y": 0.5, "size": 0.8, "measured": 3,
                 "detector": "mtcnn", "upright_from": 15.0},
        "temperature": 1.5, "min_confidence": 0.4, "seed": 0, "epoch": 3,
        "heads": {"label": 1.0}, "priors": {"label": [0.4, 0.3, 0.3]}, "prior_correction": 0.5,
        "validation": {"k": 31, "n": 45, "majority": 0.4, "macro_f1": 0.6},
        "calibration": {"n": 45, "data": "drawn", "split": "validation", "truth": "label",
                        "answered": 40, "mistakes": 9},
        "command": "python experiments.py train", "recipe": {"epochs": 4},
        "history": {"lr": [0.1, 0.2]}, "versions": {"torch": "2"}, "stages": [],
    }  # fmt: skip
