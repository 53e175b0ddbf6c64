"""From a trained network to the files that serve it: the checkpoint, and its .onnx.

Why: onnxruntime runs a network without torch's weight, in a server, a phone or a browser. An
export is kept only if it answers as the network does, so every one is run and compared before
it gets its name.
Source: the exporter is torch's own (`torch.onnx.export`, dynamo).
Needs onnx and onnxscript to export; both are imported when used.

    python -m lab.export checkpoints/tinyvgg-fer2013.safetensors
"""

import copy
import json
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from expression.checkpoint import (
    CARD_KEY,
    in_half,
    resolve_checkpoint,
    save_checkpoint,
)
from expression.files import atomic_path
from expression.onnx_network import OnnxNetwork, first_line
from expression.preprocessing import Preprocess
from expression.terminal import escape_unprintable
from lab import models

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["TorchNetwork", "as_saved", "export_checkpoint", "export_onnx", "random_faces",
           "save_network"]  # fmt: skip

BATCHES = (1, 2, 7)  # compared after every export; the network is traced with another one


def save_network(
    path: Path | str, model: nn.Module, card: dict[str, Any], half: bool = True
) -> Path:
    """A network's weights and card as a checkpoint, in half precision as they are shipped."""
    state = {name: tensor.detach().cpu().numpy() for name, tensor in model.state_dict().items()}
    return save_checkpoint(path, state, card, half)


def as_saved(model: nn.Module) -> nn.Module:
    """The network with its weights rounded as `save_network` stores them."""
    state = {name: torch.from_numpy(in_half(tensor.detach().cpu().numpy())).to(tensor)
             for name, tensor in model.state_dict().items()}  # fmt: skip
    model.load_state_dict(state)
    return model


class TorchNetwork:
    """A network in torch, called as `OnnxNetwork` is: arrays (N, C, H, W) → (N, num_classes)."""

    def __init__(self, model: nn.Module, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device, memory_format=torch.channels_last).eval()

    @classmethod
    def load(cls, checkpoint: Path | str, device: torch.device | str = "cpu") -> "TorchNetwork":
        """Raises as `lab.models.restore_checkpoint`."""
        return cls(models.restore_checkpoint(checkpoint)[0], device)

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.model(torch.from_numpy(images).to(self.device)).float().cpu().numpy()


def export_checkpoint(checkpoint: Path | str | None, overwrite: bool = False) -> Path:
    """Write a checkpoint's .onnx beside it; returns that path.

    An earlier export of the same checkpoint is replaced, another file only with `overwrite`.
    Raises FileExistsError, or as `resolve_checkpoint` and `export_onnx` do.
    """
    checkpoint = resolve_checkpoint(checkpoint)
    model, card = models.restore_checkpoint(checkpoint)
    path = checkpoint.with_suffix(".onnx")
    if path.exists() and not overwrite and not is_export_of(path, card):
        raise FileExistsError(
            f"{path} exists and was not exported from {checkpoint.name}; --overwrite replaces it"
        )
    export_onnx(model, card, path)
    return path


def is_export_of(path: Path, card: dict[str, Any]) -> bool:
    """Whether this is an ONNX file that was exported from the checkpoint with this card."""
    try:
        return OnnxNetwork(path).card == card
    except (OSError, ValueError):
        return False


def export_onnx(
    model: nn.Module, card: dict[str, Any], path: Path | str, tolerance: float = 1e-4
) -> float:
    """Write a network as one ONNX file; returns the largest difference of a logit to torch's.

    The file takes "images" (N, C, H, W) float32, normalised, of any N, with C and H = W as
    `card["preprocess"]` says, and returns "logits" (N, num_classes). The model itself is left
    as it is: a copy in eval mode, float32 and on the CPU is exported. The file is run on random
    images before it gets its name. Weights that fit in half precision without loss, as those of
    a checkpoint do, are stored in it. Raises ValueError when the network cannot be exported or
    its logits differ by more than `tolerance`, ImportError when a package is missing.
    """
    missing = [n for n in ("onnx", "onnxscript", "onnxruntime") if not installed(n)]
    if missing:
        raise ImportError(
            f"exporting to ONNX needs {', '.join(missing)}, not installed here: "
            f"pip install {' '.join(missing)}"
        )
    system = card.get("system", type(model).__name__)
    if "preprocess" not in card:
        raise ValueError(f"the card of {system} has no 'preprocess'; found {sorted(card)}")
    rule = Preprocess(**card["preprocess"])
    shape = (rule.channels, rule.size, rule.size)
    network = copy.deepcopy(model).float().cpu().eval()
    proto = store_in_half(trace(network, shape, json.dumps(card), system))
    with atomic_path(path) as part:
        part.write_bytes(proto.SerializeToString())
        difference = largest_difference(network, OnnxNetwork(part), shape)
        if not difference <= tolerance:  # written so that a NaN is refused
            raise ValueError(
                f"{system} as ONNX is not the same network: its logits differ by up to "
                f"{difference:.3g}, and {tolerance:g} is allowed; nothing was written"
            )
    return difference


def installed(package: str) -> bool:
    """Whether a package can be imported: asked first, for exporting takes its time."""
    try:
        import_module(package)
    except ImportError:
        return False
    return True


def trace(network: nn.Module, shape: tuple[int, ...], card: str, system: str) -> "ModelProto":
    """The network for images (N, *shape) as an ONNX graph that carries its card.

    Nothing is fused here: onnxruntime does that when it loads the file, and weights that were
    not multiplied into one another still fit in half precision.
    """
    from onnxscript.ir.passes.common import ClearMetadataAndDocStringPass

    images = torch.zeros(3, *shape)  # not 1: the exporter would take that for a constant
    try:
        with warnings.catch_warnings():
            # An attention map that is kept to be looked at is not part of the answer.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (images,),
                dynamo=True,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("N")},),
                external_data=False,
                optimize=False,
                verbose=False,
            )
    except Exception as error:  # torch.export passes on whatever the network's code raises
        raise ValueError(
            f"system {system} cannot be exported to ONNX ({first_line(error)})"
        ) from error
    # Every node remembers the line of Python it comes from, with the folders of this machine.
    ClearMetadataAndDocStringPass()(program.model)
    program.model.metadata_props[CARD_KEY] = card
    return program.model_proto


def store_in_half(proto: "ModelProto") -> "ModelProto":
    """Weights that float16 holds exactly are stored so, each with a Cast back to float32.

    onnxruntime applies the casts once, when it loads the file.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph, casts = proto.graph, []
    for weight in graph.initializer:
        if weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size < 64 or not np.array_equal(half.astype(np.float32), values):
            continue
        name, stored = weight.name, f"half_{weight.name}"
        weight.CopyFrom(numpy_helper.from_array(half, stored))
        casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return proto


@torch.inference_mode()
def largest_difference(network: nn.Module, exported: OnnxNetwork, shape: tuple[int, ...]) -> float:
    """The largest absolute difference of a logit, over batches of seeded random images."""
    generator = torch.Generator().manual_seed(0)
    differences = []
    for count in BATCHES:
        images = random_faces(count, shape, generator)
        answers = torch.from_numpy(exported(images.numpy()))
        differences.append((network(images) - answers).abs().max())
    return torch.stack(differences).max().item()  # NaN, if any is


def random_faces(count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Images (count, *shape) of light and dark places, as normalised faces have them.

    Of plain noise every average is the same, so a network that pools answers all alike.
    """
    channels, height, width = shape
    coarse = torch.randn(count, channels, 4, 4, generator=generator)
    places = nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return places + 0.3 * torch.randn(count, *shape, generator=generator)


if __name__ == "__main__":
    escape_unprintable()
    for name in sys.argv[1:]:
        print(f"wrote {export_checkpoint(name)}")
