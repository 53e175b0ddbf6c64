"""What the benchmarks measure: all their imports from this repository, in one table.

A name is imported when it is first asked for, because a process that times one trainer must not
load packages that only another one needs (the networks bring torchvision, for example).
"""

from importlib import import_module
from typing import Any

MODULES = {
    "faces": "Box Face FaceFinder",
    "hf_collate": "Augment Batches Collate Decoded Preprocess decode",
    "insight.metrics": "evaluate percent wilson",
    "lab.data": "Faces read some",
    "lab.origin": "revision",
    "lab.training": "fast_precision",
    "predict": "CHECKPOINTS ExpressionPredictor checkpoints open_picture",
    "sources": "load origin",
    "studio.commands": "answer_pictures",
    "studio.onnx_model": "OnnxModel blotches export_onnx reason",
    "systems": "build",
    "systems.resnet9": "ResNet9",
    "tinyvgg": "TinyVGG",
    "train_loop": "autocast train_step",
}
HOME = {name: module for module, names in MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOME[name]), name)
