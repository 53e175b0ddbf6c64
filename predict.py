"""Name the expression on pictures of faces, with a checkpoint that says all that is needed.

    python predict.py face.jpg other.png --top-k 3
    python predict.py face.jpg --checkpoint checkpoints/resnet18-fer2013.safetensors --json

From a program:

    predictor = ExpressionPredictor("checkpoints/resnet18-fer2013.safetensors")
    predictor.predict("face.jpg")  # {"happy": 0.91, "neutral": 0.06, …}
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

import systems
from hf_collate import Preprocess
from insight.model_card import headline
from train_loop import load_checkpoint, read_card

__all__ = [
    "CHECKPOINTS",
    "ExpressionPredictor",
    "checkpoints",
    "default_checkpoint",
    "open_picture",
]

CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"
Box = tuple[int, int, int, int]  # x, y, width, height in pixels
Picture = Image.Image | Path | str


def open_picture(picture: Picture) -> Image.Image:
    """A path, or a PIL picture → a PIL picture, fully read.

    Raises FileNotFoundError or ValueError, each one sentence with the file's name.
    """
    if isinstance(picture, Image.Image):
        return picture
    path = Path(picture)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give its pictures, as in {path}/*.jpg")
    try:
        with Image.open(path) as image:
            image.load()
            return image.copy() if image.format == "GIF" else image
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no picture at {path}") from None
    except UnidentifiedImageError:
        raise ValueError(
            f"{path} is not a picture that can be read; give JPEG, PNG or WebP"
        ) from None
    except Image.DecompressionBombError:
        raise ValueError(f"{path} has too many pixels to be opened safely; scale it down") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is a broken picture ({error}); export it again") from None


def checkpoints(folder: Path | str = CHECKPOINTS) -> dict[str, dict[str, Any]]:
    """{file name without ending: card} of every checkpoint of ours, the one to serve first.

    Order: real faces before drawn ones, then by the number of validation pictures (the
    figures that can be relied on), of classes (fewer are easier) and by validation
    accuracy. Files of other systems, and broken ones, are passed over.
    """
    cards = {}
    for path in Path(folder).glob("*.safetensors"):
        try:
            cards[path.stem] = read_card(path)
        except ValueError:
            continue

    def rank(name: str) -> tuple[bool, int, int, float, str]:
        card = cards[name]
        val = card.get("validation") or {"k": 0, "n": 0}
        drawn = card.get("data", {}).get("name") == "synthetic"
        share = val["k"] / max(val["n"], 1)
        return drawn, -val["n"], -len(card["class_names"]), -share, name

    return {name: cards[name] for name in sorted(cards, key=rank)}


def default_checkpoint(folder: Path | str = CHECKPOINTS) -> Path:
    """The checkpoint that serves when none is named. Raises FileNotFoundError if none is there."""
    names = list(checkpoints(folder))
    if not names:
        raise FileNotFoundError(
            f"no checkpoint in {folder}; run the notebook (make notebook), which "
            "exports one, or give --checkpoint"
        )
    return Path(folder) / f"{names[0]}.safetensors"


class ExpressionPredictor:
    """A checkpoint, loaded once: picture of one face → probabilities.

    The network, its classes and the preprocessing all come from the file. Raises
    FileNotFoundError when it is missing and ValueError when it is broken, of
    another system, or does not fit the network that its card names.
    """

    def __init__(
        self, checkpoint: Path | str | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.path = Path(checkpoint) if checkpoint is not None else default_checkpoint()
        state, self.card = load_checkpoint(self.path)
        try:
            self.class_names: tuple[str, ...] = tuple(self.card["class_names"])
            self.preprocess = Preprocess(**self.card["preprocess"])
            self.model = systems.build(
                self.card["system"],
                num_classes=len(self.class_names),
                in_channels=self.preprocess.channels,
                **self.card.get("system_args", {}),
            )
            self.model.load_state_dict(state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(
                f"{self.path} does not fit this version of the project ({reason})"
            ) from error
        self.temperature = float(self.card.get("temperature", 1.0))
        self.device = torch.device(device)
        self.model.to(self.device).eval()

    @torch.inference_mode()
    def logits(self, images: Sequence[Image.Image]) -> Tensor:
        """PIL pictures → logits (N, num_classes), preprocessed as validation pictures were."""
        batch = torch.stack([self.preprocess(image) for image in images])
        return self.model(batch.to(self.device)).float().cpu()

    def predict_batch(
        self, pictures: Sequence[Picture], top_k: int | None = None
    ) -> list[dict[str, float]]:
        """As `predict`, for several pictures in one pass through the network."""
        if not pictures:
            return []
        probs = (self.logits([open_picture(p) for p in pictures]) / self.temperature).softmax(dim=1)
        order = probs.argsort(dim=1, descending=True, stable=True)[:, :top_k]
        return [
            {self.class_names[i]: row[i].item() for i in ranks.tolist()}
            for row, ranks in zip(probs, order, strict=True)
        ]

    def predict(
        self, picture: Picture, box: Box | None = None, top_k: int | None = None
    ) -> dict[str, float]:
        """Probabilities in [0, 1] by class name, the most likely first.

        `box` is a face's (x, y, width, height) in pixels; without it the whole picture
        is the face. `top_k` keeps the first few. Raises FileNotFoundError or ValueError
        for a picture that cannot be read, ValueError for a box outside it.
        """
        image = open_picture(picture)
        if box is not None:
            x, y, width, height = box
            region = (
                max(x, 0),
                max(y, 0),
                min(x + width, image.width),
                min(y + height, image.height),
            )
            if region[2] <= region[0] or region[3] <= region[1]:
                raise ValueError(
                    f"box {box} holds no part of a {image.width} × {image.height} picture"
                )
            image = image.crop(region)
        return self.predict_batch([image], top_k)[0]


def bar(share: float, width: int = 24) -> str:
    return "█" * round(share * width)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0, or 2 when anything could not be answered."""
    parser = argparse.ArgumentParser(description="Name the expression on pictures of faces.")
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help="a picture of one face")
    parser.add_argument("--checkpoint", help="default: the first of checkpoints/ (see --list)")
    parser.add_argument("--top-k", type=int, metavar="K", help="only the K most likely classes")
    parser.add_argument("--json", action="store_true", help="one JSON list, for programs")
    parser.add_argument("--list", action="store_true", help="list the checkpoints and stop")
    args = parser.parse_args(arguments)
    if args.list:
        for name, card in checkpoints().items():
            print(f"{name}: {headline(card)}")
        return 0
    if not args.pictures:
        print("error: no picture given; try: python predict.py face.jpg", file=sys.stderr)
        return 2
    if args.top_k is not None and args.top_k < 1:
        print(f"error: --top-k is {args.top_k}; it must be 1 or more", file=sys.stderr)
        return 2
    try:
        predictor = ExpressionPredictor(args.checkpoint)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    answers, failed = [], False
    for picture in args.pictures:
        try:
            probs = predictor.predict(picture, top_k=args.top_k)
        except (OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            failed = True
            continue
        answers.append(
            {"picture": picture, "expression": next(iter(probs)), "probabilities": probs}
        )
        if not args.json:
            print(picture)
            for name, share in probs.items():
                print(f"  {name:10} {100 * share:5.1f} %  {bar(share)}")
    if args.json:
        print(json.dumps(answers, indent=1))
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
