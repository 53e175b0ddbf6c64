"""Open the network of a checkpoint, wherever its answers come from.

The .onnx file beside the checkpoint answers. A checkpoint without one, such as a user's own
training, is exported when it is first used: into the folder .expression_cache beside it, under a
name that holds the checkpoint's SHA-256, so that a new training of the same name is never
answered by an old export; a damaged one is made again. Exporting needs torch and the laboratory
(`lab/`), which are imported only then; this is the one place of this package that asks them for
anything.
"""

import hashlib
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from expression.checkpoint import HUB_PREFIX, read_card
from expression.extras import install_command
from expression.kept_files import is_whole
from expression.onnx_network import OnnxNetwork

__all__ = [
    "Network",
    "can_answer",
    "export",
    "first_export",
    "has_torch",
    "open_network",
    "open_onnx",
    "program",
]

Network = Callable[[np.ndarray], np.ndarray]  # images (N, C, H, W) → logits (N, num_classes)


def missing(error: ImportError) -> str:
    """What exporting lacks here, and how to install it."""
    return f"needs torch and the laboratory ({error}): {install_command('train')}"


def program() -> str:
    """The command to name in advice: as it is called here, or from a clone."""
    return "expression" if Path(sys.argv[0]).stem == "expression" else "python predict.py"


def open_onnx(checkpoint: Path) -> OnnxNetwork:
    """The .onnx file beside a checkpoint.

    Raises FileNotFoundError where there is none, ValueError where it is of another training.
    """
    path = checkpoint.with_suffix(".onnx")
    how = f"{program()} --export-onnx --checkpoint {checkpoint}"
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}; where torch is installed, {how} writes it")
    network = OnnxNetwork(path)
    if network.card != read_card(checkpoint):
        raise ValueError(
            f"{path} was exported from another {checkpoint.name}; again: {how} --overwrite"
        )
    check_output(network)
    return network


def check_output(network: OnnxNetwork) -> None:
    """Raises ValueError where a network's answer has not a logit for each class of its card."""
    shapes = {output.name: output.shape for output in network.session.get_outputs()}
    classes = len(network.card["class_names"])
    if shapes.get("logits", [classes + 1])[-1] != classes:
        raise ValueError(
            f"{network.path} does not fit its card: {classes} classes are named, its outputs are "
            f"{shapes}; export it again, or take another file"
        )


def open_network(checkpoint: Path) -> Network:
    """The .onnx file beside a checkpoint, or its export of the first use, made now if need be.

    A network that cannot be exported (an SVM) answers through torch. Raises FileNotFoundError, one
    sentence, where there is neither an export nor torch; otherwise as `open_onnx`.
    """
    if checkpoint.with_suffix(".onnx").exists():
        return open_onnx(checkpoint)
    kept = first_export(checkpoint)
    if is_whole(kept):
        return OnnxNetwork(kept)
    try:
        from lab.first_use import export_or_torch  # imports torch: only where it is needed
    except ImportError as error:
        raise FileNotFoundError(
            f"there is no {checkpoint.with_suffix('.onnx')}, and writing it {missing(error)}"
        ) from None
    return export_or_torch(checkpoint, kept)


def first_export(checkpoint: Path) -> Path:
    """Where the export of a checkpoint's first use is kept."""
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:16]
    return checkpoint.parent / ".expression_cache" / f"{checkpoint.stem}-{digest}.onnx"


def export(checkpoint: Path | str | None, overwrite: bool = False) -> Path:
    """Write a checkpoint's .onnx beside it; returns that path.

    Raises as `lab.export.export_checkpoint`, ImportError, one sentence, without torch, and
    ValueError for a network on the hub.
    """
    if str(checkpoint).startswith(HUB_PREFIX):
        raise ValueError(f"{checkpoint} comes with its .onnx: there is nothing to export")
    try:
        from lab.export import export_checkpoint
    except ImportError as error:
        raise ImportError(f"exporting {missing(error)}") from None
    return export_checkpoint(checkpoint, overwrite)


def has_torch() -> bool:
    """Whether torch and the laboratory are installed; nothing is imported to find out."""
    try:
        return all(find_spec(name) is not None for name in ("torch", "lab"))
    except (ImportError, ValueError):  # hidden from this program
        return False


def can_answer(checkpoint: Path) -> bool:
    """Whether a checkpoint can be opened here: by an .onnx file, or by torch."""
    exported = checkpoint.with_suffix(".onnx").exists()
    return exported or has_torch() or is_whole(first_export(checkpoint))
