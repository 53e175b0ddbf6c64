"""A trained network from its .onnx file, run by onnxruntime.

Why: onnxruntime answers without torch, starts in a fraction of a second and is faster for a
single face. The file carries the checkpoint's card, so that an outdated export is noticed.
`lab/export.py` writes such files.
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from expression.checkpoint import CARD_KEY

__all__ = ["MOST_MEMORY", "OnnxNetwork", "first_line", "open_session"]

MOST_MEMORY = 1_000_000_000  # bytes that all strangers' networks of a program take while they run
INPUTS = 2**18  # numbers that go through a network at once: 113 faces of 48 × 48 pixels


@cache
def bounded_memory() -> bool:
    """Have onnxruntime take at most `MOST_MEMORY` for all sessions that ask for it; once.

    False where the program has set up such a memory of its own, which is then used.
    """
    import onnxruntime as ort

    place = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    bounds = ort.OrtArenaCfg({"max_mem": MOST_MEMORY})
    try:
        ort.create_and_register_allocator(place, bounds)
    except Exception:  # as in `open_session`
        return False
    return True


def open_session(path: Path, threads: int = 1, spin: bool = False, bounded: bool = False) -> Any:
    """An ONNX file as an onnxruntime session on the CPU; several threads may call it at once.

    `bounded`, for a file that may be a stranger's: some kilobytes can ask for any memory. While it
    runs, all such sessions take `MOST_MEMORY` together; what is computed once when it is loaded is
    twice as large as the file at most, enough for weights in half precision.

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
    if bounded:
        bounded_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry(
            "optimization.constant_folding_max_output_size_in_bytes", str(2 * path.stat().st_size)
        )
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
        self.session = open_session(self.path, threads, spin, bounded=True)
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
        """Raises ValueError for images of another shape than the network was exported for, and
        where it fails or takes more memory than `MOST_MEMORY`."""
        if tuple(images.shape[1:]) != self.shape:
            wanted = ", ".join(map(str, self.shape))
            raise ValueError(f"images are {tuple(images.shape)}; {self.path} takes (N, {wanted})")
        count = max(INPUTS // max(math.prod(images.shape[1:]), 1), 1)
        starts = range(0, max(len(images), 1), count)
        return np.concatenate([self._run(images[start : start + count]) for start in starts])

    def _run(self, images: np.ndarray) -> np.ndarray:
        try:
            inputs = {"images": np.ascontiguousarray(images, np.float32)}
            return self.session.run(["logits"], inputs)[0]
        except Exception as error:  # as in `open_session`
            raise ValueError(
                f"{self.path} cannot answer: it fails, or needs more than "
                f"{MOST_MEMORY // 10**6} MB for {len(images)} pictures ({first_line(error)})"
            ) from error


def first_line(error: BaseException) -> str:
    """The first line of an error's first cause: exporters wrap it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
