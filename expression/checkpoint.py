"""What a checkpoint is: weights and a card in one safetensors file, and the only reader of both.

Why: safetensors holds numbers and text and nothing that runs, so a stranger's file is safe to
open; the card (JSON in the file's header) says all that serving needs, so nothing is guessed. A
checkpoint is written once and never changed.
Needs numpy and safetensors; arrays of torch are taken as they are.
"""

import glob
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from expression.card import check_card
from expression.files import atomic_write, shown, whole_files

__all__ = [
    "CARD_KEY",
    "CHECKPOINTS",
    "HUB_PREFIX",
    "default_checkpoint",
    "in_half",
    "known_names",
    "list_checkpoints",
    "load_checkpoint",
    "read_card",
    "resolve_checkpoint",
    "save_checkpoint",
]

CARD_KEY = "expression"  # of the card in a safetensors header and an .onnx file's metadata
HUB_PREFIX = "hf:"  # of a network's name on the Hugging Face hub
HERE = Path(__file__).resolve().parent
# A wheel brings the served checkpoints inside this package; a clone has them all at its root.
CHECKPOINTS = (HERE if (HERE / "checkpoints").is_dir() else HERE.parent) / "checkpoints"


def save_checkpoint(
    path: Path | str, state: Mapping[str, Any], card: dict[str, Any], half: bool = False
) -> Path:
    """Write weights (arrays by name) and card; the file at `path` is always a whole one.

    `half` stores floating-point weights in float16, which halves the file (see `in_half`).
    """
    arrays = {}
    for name, value in state.items():
        array = in_half(np.asarray(value)) if half else np.asarray(value)
        arrays[name] = np.ascontiguousarray(array).reshape(array.shape)  # keeps 0-d arrays 0-d
    with atomic_write(path) as file:
        file.write(save(arrays, metadata={CARD_KEY: json.dumps(card)}))
    return Path(path)


def in_half(array: np.ndarray) -> np.ndarray:
    """Floating-point numbers as float16; as they are where one is larger than float16 can hold."""
    if array.dtype.kind != "f":
        return array
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.isfinite(half).all() or not np.isfinite(array).all() else array


def read_card(path: Path | str) -> dict[str, Any]:
    """The card of a checkpoint, from its header alone (fast, whatever the size), checked.

    Raises FileNotFoundError, or ValueError when the file is no checkpoint of ours or its card
    does not fit (see `expression.card`).
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="np") as file:
            card = json.loads((file.metadata() or {})[CARD_KEY])
    except KeyError:
        raise ValueError(
            f"{path} is safetensors, but of another system: its header has no {CARD_KEY!r} card"
        ) from None
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        if Path(path).suffix != ".safetensors":
            raise ValueError(
                f"{path} is no checkpoint: one is a .safetensors file, or a name; {known_names()}"
            ) from error
        raise ValueError(
            f"{path} is not a whole safetensors file ({shorten(str(error), 300)})"
        ) from error
    return check_card(card, path)


def load_checkpoint(path: Path | str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(weights by name, floating-point ones as float32; card). Raises as `read_card` does."""
    card = read_card(path)
    with safe_open(path, framework="np") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return {n: a.astype(np.float32) if a.dtype.kind == "f" else a for n, a in state.items()}, card


def resolve_checkpoint(checkpoint: Path | str | None, folder: Path | str = CHECKPOINTS) -> Path:
    """A checkpoint's path: as given; or by its name in `folder`; or, for None, the default one.

    A name may leave out the ending, and the data set where only one file fits: "tinyvgg"
    means tinyvgg-fer2013.safetensors. An .onnx file means the checkpoint beside it. A path into
    another folder is taken as it is. "hf:owner/name" is fetched from the Hugging Face hub (see
    `expression.hub`). Raises FileNotFoundError, listing what is there.
    """
    if checkpoint is None:
        return default_checkpoint(folder)
    if str(checkpoint).startswith(HUB_PREFIX):
        from expression.hub import fetch_checkpoint  # and what keeps its cache: only where named

        return fetch_checkpoint(Path(checkpoint).as_posix())
    path, folder = Path(checkpoint), Path(folder)
    if path.suffix == ".onnx":
        path = path.with_suffix(".safetensors")
    if path.is_file():
        return path
    # A mistyped path must not be answered by another network that has the same name.
    if str(path.parent) in (".", folder.name) or path.parent.resolve() == folder.resolve():
        for candidate in (folder / path.name, folder / f"{path.name}.safetensors"):
            if candidate.is_file() and candidate.suffix == ".safetensors":
                return candidate
        fitting = sorted(folder.glob(f"{glob.escape(path.name)}-*.safetensors"))
        if len(fitting) == 1:
            return fitting[0]
    raise FileNotFoundError(f"no checkpoint {shown(checkpoint)}; {known_names(folder)}")


def known_names(folder: Path = CHECKPOINTS) -> str:
    """Which names `resolve_checkpoint` knows, for an error."""
    known = ", ".join(p.stem for p in whole_files(folder, "*.safetensors")) or "none"
    return f"in {folder}: {known}"


def list_checkpoints(
    folder: Path | str = CHECKPOINTS, notebook_first: bool = False
) -> dict[str, dict[str, Any]]:
    """{file name without ending: card} of every checkpoint of ours, the one to serve first.

    Order: real faces before drawn ones, networks that learnt from several sources of labels before
    those of one (they hold on more kinds of faces), then by the number of validation pictures (the
    figures that can be relied on), of classes (fewer are easier) and by validation
    accuracy. A file that is of another system, broken, or has a card that does not fit is
    passed over; one line on standard error names it and says why.

    `notebook_first`, for the demo: of the networks of real faces, one that the notebook
    exported comes first, however few its pictures. Whoever ran the notebook wants to meet the
    network they made. Its card's command is `make notebook`, and it has a test figure
    (candidates that an interrupted notebook leaves have none).
    """
    cards = {}
    for path in whole_files(Path(folder), "*.safetensors"):
        try:
            cards[path.stem] = read_card(path)
        except (OSError, ValueError) as error:
            print(f"passed over: {shown(' '.join(str(error).split()))}", file=sys.stderr)

    def rank(name: str) -> tuple[bool, bool, int, int, int, float, str]:
        card = cards[name]
        val = card.get("validation") or {"k": 0, "n": 0}
        drawn = card.get("data", {}).get("name") == "synthetic"
        share = val["k"] / max(val["n"], 1)
        exported = card.get("command") == "make notebook" and bool(card.get("test"))
        later = notebook_first and not exported
        sources = len(card.get("heads", ("label",)))
        return drawn, later, -sources, -val["n"], -len(card["class_names"]), -share, name

    return {name: cards[name] for name in sorted(cards, key=rank)}


def default_checkpoint(folder: Path | str = CHECKPOINTS) -> Path:
    """The checkpoint that serves when none is named. Raises FileNotFoundError if none is there."""
    names = list(list_checkpoints(folder))
    if not names:
        raise FileNotFoundError(
            f"no checkpoint in {folder}; run the notebook (make notebook), which "
            "exports one, or give --checkpoint"
        )
    return Path(folder) / f"{names[0]}.safetensors"
