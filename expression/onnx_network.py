"""A trained network from its .onnx file, run by onnxruntime.

Why: onnxruntime answers without torch, starts in a fraction of a second and is faster for a
single face. The file carries the checkpoint's card, so that an outdated export is noticed.
`lab/export.py` writes such files.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from expression.checkpoint import CARD_KEY

__all__ = ["OnnxNetwork", "first_line", "open_session"]


def open_session(path: Path, threads: int = 1, spin: bool = False) -> Any:
    """An ONNX file as an onnxruntime session on the CPU; several threads may call it at once.

    `threads` are the cores that share one call (0: onnxruntime's choice, all of them). Between
    calls its threads sleep, unless `spin`: spinning ones answer the next call sooner, but take the
    cores from everything else. Raises FileNotFoundError, ValueError where the file is broken.
    """
    import onnxruntime  # takes a tenth of a second: not before a network is wanted

    if not path.is_file():
        raise FileNotFoundError(f"no ONNX file at {path}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised; nothing else is printed
    options.intra_op_num_threads = threads
    if not spin:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise ValueError(
            f"{path} is not a whole ONNX file ({first_line(error)}); export it again"
        ) from error


class OnnxNetwork:
    """Images (N, C, H, W) float32, normalised → logits (N, num_classes) float32.

    `card` is the dict that was exported with the network. `threads` are the cores that share one
    call and `spin` what they do between calls, as in `open_session`. Raises FileNotFoundError when
    the file is missing, ValueError when it is not one of ours.
    """

    def __init__(self, path: Path | str, threads: int = 1, spin: bool = False) -> None:
        self.path = Path(path)
        self.session = open_session(self.path, threads, spin)
        self.card = self._read_card()
        self.shape = tuple(self.session.get_inputs()[0].shape[1:])  # (C, H, W)

    def _read_card(self) -> dict[str, Any]:
        """The card in the file's metadata. Raises ValueError when there is none."""
        metadata = self.session.get_modelmeta().custom_metadata_map
        if CARD_KEY not in metadata:
            raise ValueError(
                f"{self.path} is ONNX, but of another system: its metadata has no "
                f"{CARD_KEY!r} card; export the checkpoint again"
            )
        try:
            card = json.loads(metadata[CARD_KEY])
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"the card in {self.path} is not JSON ({first_line(error)}); export it again"
            ) from None
        if not isinstance(card, dict):
            raise ValueError(f"the card in {self.path} is no JSON object; export it again")
        return card

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Raises ValueError for images of another shape than the network was exported for."""
        if tuple(images.shape[1:]) != self.shape:
            wanted = ", ".join(map(str, self.shape))
            raise ValueError(f"images are {tuple(images.shape)}; {self.path} takes (N, {wanted})")
        return self.session.run(["logits"], {"images": np.ascontiguousarray(images, np.float32)})[0]


def first_line(error: BaseException) -> str:
    """The first line of an error's first cause: exporters wrap it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
