"""What the benchmarks measure: all their imports from this repository, in one table.

A name is imported when it is first asked for, because a process that times one trainer must not
load packages that only another one needs (the networks bring torchvision, for example).
"""

from importlib import import_module
from typing import Any

MODULES = {
    "expression.checkpoint": "CHECKPOINTS list_checkpoints",
    "expression.face_detector": "Box Face FaceFinder",
    "expression.files": "atomic_write",
    "expression.onnx_network": "OnnxNetwork first_line",
    "expression.picture_batches": "answer_pictures",
    "expression.pictures": "open_picture",
    "expression.predictor": "ExpressionPredictor open_onnx",
    "expression.preprocessing": "Preprocess",
    "hf_collate": "Augment Batches Collate Decoded decode",
    "lab.class_names": "canonical",
    "lab.data": "Faces read subset_indices",
    "lab.datasets": "load origin",
    "lab.duplicates": "pictures",
    "lab.export": "TorchNetwork export_onnx",
    "lab.further_data": "read_further",
    "lab.matrix": "Setup measure_network prepare",
    "lab.metrics": "evaluate percent wilson",
    "lab.models": "build",
    "lab.models.resnet9": "ResNet9",
    "lab.provenance": "revision",
    "lab.recording": "data_words",
    "lab.results": "MeasuredNetwork file_sha256",
    "lab.optimization": "fast_precision",
    "lab.options": "Data",
    "tinyvgg": "TinyVGG",
    "train_loop": "autocast train_step",
}
HOME = {name: module for module, names in MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOME[name]), name)
