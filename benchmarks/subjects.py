"""What the benchmarks measure: all their imports from this repository, in one table.

A name is imported when it is first asked for, because a process that times one trainer must not
load packages that only another one needs (the networks bring torchvision, for example).
"""

from importlib import import_module
from typing import Any

MODULES = {
    "augment": "Augment Mixup",
    "expression.appearance": "Appearance WEIGHTS gradients upright_gray",
    "expression.checkpoint": "CHECKPOINTS list_checkpoints read_card",
    "expression.face_detector": "Box Face FaceFinder",
    "expression.files": "atomic_write whole_files",
    "expression.networks": "open_network open_onnx",
    "expression.onnx_network": "OnnxNetwork first_line",
    "expression.picture_batches": "answer_pictures",
    "expression.pictures": "open_picture",
    "expression.predictor": "ExpressionPredictor",
    "expression.preprocessing": "Preprocess",
    "expression.tracker": "Tracker",
    "expression.video": "VideoWriter",
    "hf_collate": "Batches Collate Decoded decode",
    "lab.class_names": "UNCERTAIN canonical",
    "lab.data": "Faces preprocess read subset_indices",
    "lab.datasets": "fingerprint load origin",
    "lab.duplicates": "pictures",
    "lab.evaluation": "load_model",
    "lab.export": "TorchNetwork export_onnx",
    "lab.from_checkpoint": "settled",
    "lab.further_data": "read_further",
    "lab.heads": "HeadLoss head_targets",
    "lab.matrix": "Setup measure_network prepare",
    "lab.metrics": "collect evaluate percent wilson",
    "lab.models": "build",
    "lab.models.resnet9": "ResNet9",
    "lab.optimization": "make_optimizer",
    "lab.options": "Data",
    "lab.precision": "fast_precision",
    "lab.provenance": "revision",
    "lab.recipe": "Recipe",
    "lab.recipes": "RECIPES",
    "lab.recording": "data_words",
    "lab.robustness": "right_answers rows_of",
    "lab.results": "MeasuredNetwork Results file_sha256",
    "lab.run": "Run",
    "lab.svm_training": "fit_svm train_svm",
    "lab.tensorboard_log": "TensorBoardLog",
    "lab.training": "train_network",
    "lab.votes": "crowd_figures",
    "tinyvgg": "TinyVGG",
    "train_loop": "autocast test_step train_step",
}
HOME = {name: module for module, names in MODULES.items() for name in names.split()}
RENAMED = {"evaluate_checkpoint": ("lab.evaluation", "evaluate")}  # lab.metrics has one too


def __getattr__(name: str) -> Any:
    if name in RENAMED:
        module, own = RENAMED[name]
        return getattr(import_module(module), own)
    if name not in HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOME[name]), name)
