"""Fine-tuning as a command: which network it starts from, and the files that it ends with.

Why: whoever trains on their own folder chooses no network and no size of pictures; both are those
of the checkpoint that goes on learning. And they want something to use: the .onnx, and the next
command. What happens to the weights is in `lab.finetuning`.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from expression.checkpoint import CHECKPOINTS, read_card, resolve_checkpoint
from lab.checks import UsageError, option
from lab.export import export_checkpoint
from lab.recipe import Recipe
from lab.recipes import RECIPES
from lab.svm_training import SYSTEMS as SVM_SYSTEMS

__all__ = ["FROM_CARD", "settled", "write_onnx"]

# Fields of a recipe that a fine-tuned network takes from its checkpoint.
FROM_CARD = ("system", "system_args", "size", "mode", "channels", "mean", "std")


def settled(name: str, recipe: Recipe, data: str | None) -> Recipe:
    """A recipe that fine-tunes, with the network and the pictures of its checkpoint: `init_from`,
    or where that is empty the network that is served. Another recipe is returned as it is.

    `data` is what --data names. Raises FileNotFoundError without the checkpoint, UsageError where
    the options ask for another network or other pictures than the checkpoint's, and where neither
    they nor EXPRESSION_DATA say which faces are meant: no other faces are somebody's own.
    """
    if not recipe.fine_tune:
        return recipe
    if not (data or os.environ.get("EXPRESSION_DATA", "").strip()):
        raise UsageError(f"{name} learns faces of your own: give --data FOLDER, a folder a class")
    path = resolve_checkpoint(recipe.init_from or None)
    usual = RECIPES[name]
    for field in FROM_CARD:
        if getattr(recipe, field) != getattr(usual, field):
            word = "--arg" if field == "system_args" else option(field)
            raise UsageError(f"{word}: fine-tuning takes network and pictures from {path}")
    card = read_card(path)
    if card["system"] in SVM_SYSTEMS:
        raise UsageError(f"{path} is a {card['system']}, which has no weights to train further")
    rule = {"mode": "RGB", "mean": [0.5], "std": [0.5], **card["preprocess"]}
    if rule.pop("resize", "squash") != "squash":
        raise UsageError(f"{path} crops its pictures, which training here does not do")
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in rule.items()}
    known = path.resolve().parent == CHECKPOINTS.resolve()
    return replace(
        recipe, **given, system=card["system"], system_args=card.get("system_args", {}),
        init_from=f"checkpoints/{path.name}" if known else recipe.init_from,
    )  # fmt: skip


def write_onnx(checkpoint: Path) -> None:
    """Write the .onnx beside a fine-tuned checkpoint, and print the command that uses it.

    Where that fails, one line says why; the checkpoint answers through torch.
    """
    try:
        print(f"wrote {export_checkpoint(checkpoint)}")
    except (ImportError, OSError, ValueError) as error:
        print(
            f"no .onnx: {error}; later: python predict.py --export-onnx --checkpoint {checkpoint}",
            file=sys.stderr,
        )
    print(f"try it: python predict.py photo.jpg --checkpoint {checkpoint}", flush=True)
