"""A trained network as one ONNX file that carries its card, and that file as a model again.

Why: onnxruntime runs a network without torch's weight, in a server, a phone or a browser.
A file is worth keeping only if it answers as the network does, so every export is run and
compared before it gets its name; and it has to say which classes it tells apart and how a
picture is prepared, so the card travels in it, as in our safetensors.
Source: written for this project; the exporter is torch's own (`torch.onnx.export`, dynamo).
Needs onnxscript to export and onnxruntime to check and to run; both are imported when used.

    export_onnx(predictor.model, predictor.card, Path("face.onnx"))
    model = OnnxModel("face.onnx")
    logits = model(torch.stack([predictor.preprocess(image)]))
"""

import copy
import json
import os
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hf_collate import Preprocess

__all__ = ["OnnxModel", "export_onnx"]

FORMAT = "expression"  # the key of the card, as in the header of our safetensors
BATCHES = (1, 2, 7)  # compared after every export; the network is traced with another one


def export_onnx(
    model: nn.Module, card: dict[str, Any], path: Path | str, tolerance: float = 1e-4
) -> float:
    """Write a network as one ONNX file; returns the largest difference of a logit to torch's.

    The file takes "images" (N, C, H, W) float32, normalised, of any N, with C and H = W as
    `card["preprocess"]` says, and returns "logits" (N, num_classes). The model itself is
    left as it is: a copy in eval mode, float32 and on the CPU is exported. It is written
    beside `path`, run on random images and renamed, so whatever goes wrong, `path` is
    what it was. Raises ValueError when the network cannot be exported or the logits differ
    by more than `tolerance`, ImportError when a package is missing.
    """
    missing = [n for n in ("onnx", "onnxscript", "onnxruntime") if not installed(n)]
    if missing:
        raise ImportError(
            f"exporting to ONNX needs {', '.join(missing)}, not installed here: "
            f"pip install {' '.join(missing)}"
        )
    path, text = Path(path), json.dumps(card)
    system = card.get("system", type(model).__name__)
    if "preprocess" not in card:
        raise ValueError(f"the card of {system} has no 'preprocess'; found {sorted(card)}")
    rule = Preprocess(**card["preprocess"])
    shape = (rule.channels, rule.size, rule.size)
    network = copy.deepcopy(model).float().cpu().eval()
    written = translate(network, shape, text, system)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with part.open("wb") as file:
            file.write(written)
            file.flush()
            os.fsync(file.fileno())
        difference = largest_difference(network, OnnxModel(part), shape)
        if not difference <= tolerance:  # written so that a NaN is refused
            raise ValueError(
                f"{system} as ONNX is not the same network: its logits differ by up to "
                f"{difference:.3g}, and {tolerance:g} is allowed; nothing was written"
            )
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return difference


def installed(package: str) -> bool:
    """Whether a package can be imported: asked first, for exporting takes its time."""
    try:
        import_module(package)
    except ImportError:
        return False
    return True


def translate(network: nn.Module, shape: tuple[int, ...], card: str, system: str) -> bytes:
    """The bytes of an ONNX file: the network for images (N, *shape), and its card."""
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
                verbose=False,
            )
    except Exception as error:  # torch.export passes on whatever the network's code raises
        raise ValueError(f"system {system} cannot be exported to ONNX ({reason(error)})") from error
    # Every node remembers the line of Python it comes from, with the folders of this machine.
    ClearMetadataAndDocStringPass()(program.model)
    program.model.metadata_props[FORMAT] = card
    return program.model_proto.SerializeToString()


def reason(error: BaseException) -> str:
    """The first line of the first cause: the exporter wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


@torch.inference_mode()
def largest_difference(network: nn.Module, exported: "OnnxModel", shape: tuple[int, ...]) -> float:
    """The largest absolute difference of a logit, over batches of seeded random images."""
    generator = torch.Generator().manual_seed(0)
    differences = []
    for count in BATCHES:
        images = blotches(count, shape, generator)
        differences.append((network(images) - exported(images)).abs().max())
    return torch.stack(differences).max().item()  # NaN, if any is


def blotches(count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Images (count, *shape) of light and dark places, as normalised faces have them.

    Of plain noise every average is the same, so a network that pools answers all alike.
    """
    channels, height, width = shape
    coarse = torch.randn(count, channels, 4, 4, generator=generator)
    places = nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return places + 0.3 * torch.randn(count, *shape, generator=generator)


class OnnxModel:
    """An ONNX file made by `export_onnx`, run by onnxruntime on the CPU.

    Called with images (N, C, H, W), normalised, it returns logits (N, num_classes) float32
    on the CPU. `card` is the dict that was exported with it. `threads` are the cores that
    share one call (default: onnxruntime's choice, all of them); they `spin` for a while after
    it, which makes the next one come sooner, but takes the cores from whatever torch does in
    between, such as finding faces. Raises FileNotFoundError when the file is missing,
    ValueError when it is not one of ours, ImportError without onnxruntime.
    """

    def __init__(self, path: Path | str, threads: int | None = None, spin: bool = True) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(
                "running an ONNX file needs onnxruntime, not installed here: "
                "pip install onnxruntime"
            ) from error
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"no ONNX file at {self.path}")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised; the rest is chatter
        if not spin:
            options.add_session_config_entry("session.force_spinning_stop", "1")
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self.session = onnxruntime.InferenceSession(
                self.path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise ValueError(
                f"{self.path} is not a whole ONNX file ({reason(error)}); export it again"
            ) from error
        self.card = self.read_card()
        self.shape = tuple(self.session.get_inputs()[0].shape[1:])  # (C, H, W)

    def read_card(self) -> dict[str, Any]:
        """The card in the file's metadata. Raises ValueError when there is none."""
        metadata = self.session.get_modelmeta().custom_metadata_map
        if FORMAT not in metadata:
            raise ValueError(
                f"{self.path} is ONNX, but of another system: its metadata has no "
                f"{FORMAT!r} card; export with export_onnx"
            )
        try:
            card = json.loads(metadata[FORMAT])
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(
                f"the card in {self.path} is not JSON ({error}); export again"
            ) from None
        if not isinstance(card, dict):
            raise ValueError(f"the card in {self.path} is no JSON object; export again")
        return card

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) → logits (N, num_classes). Raises ValueError for another shape."""
        if tuple(images.shape[1:]) != self.shape:
            wanted = ", ".join(map(str, self.shape))
            raise ValueError(f"images are {tuple(images.shape)}; {self.path} takes (N, {wanted})")
        array = images.detach().float().cpu().contiguous().numpy()
        return torch.from_numpy(self.session.run(["logits"], {"images": array})[0])
