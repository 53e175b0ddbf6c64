"""Find the faces in pictures and videos and name the expression that each shows.

    python predict.py photo.jpg holiday/ "*.png" https://example.org/face.jpg
    python predict.py holiday/ clip.mp4 --annotate out --csv out.csv
    python predict.py --webcam                      (q quits, s saves a screenshot)

From a program, with the same methods as the `fer` package, or all that is known:

    predictor = ExpressionPredictor()               # load once
    predictor.detect_emotions(cv2.imread("photo.jpg"))
    predictor.find("photo.jpg")                     # [Seen(box, probs, score, tilt), …]
    predictor.predict("face.jpg")                   # one face, cropped: {"happy": 0.91, …}
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import systems
from faces import Box, CropRule, Face, FaceFinder
from hf_collate import Preprocess
from insight.model_card import headline
from studio.card import load_checkpoint, read_card
from studio.follow import Follower, Seen, ranked
from studio.onnx_model import OnnxModel, export_onnx
from studio.pictures import Picture, open_picture

__all__ = [
    "CHECKPOINTS",
    "ExpressionPredictor",
    "checkpoints",
    "default_checkpoint",
    "open_picture",
]

CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"
BACKENDS = ("torch", "onnx")


def checkpoints(
    folder: Path | str = CHECKPOINTS, notebook_first: bool = False
) -> dict[str, dict[str, Any]]:
    """{file name without ending: card} of every checkpoint of ours, the one to serve first.

    Order: real faces before drawn ones, then by the number of validation pictures (the
    figures that can be relied on), of classes (fewer are easier) and by validation
    accuracy. A file that is of another system, broken, or has a card that does not fit is
    passed over; one line on standard error names it and says why.

    `notebook_first`, for the demo: of the networks of real faces, one that the notebook
    exported comes first, however few its pictures. Whoever ran the notebook wants to meet the
    network they made. Its card's command is `make notebook`, and it has a test figure
    (candidates that an interrupted notebook leaves have none).
    """
    cards = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        try:
            cards[path.stem] = read_card(path)
        except (OSError, ValueError) as error:
            print(f"passed over: {' '.join(str(error).split())}", file=sys.stderr)

    def rank(name: str) -> tuple[bool, bool, int, int, float, str]:
        card = cards[name]
        val = card.get("validation") or {"k": 0, "n": 0}
        drawn = card.get("data", {}).get("name") == "synthetic"
        share = val["k"] / max(val["n"], 1)
        exported = card.get("command") == "make notebook" and bool(card.get("test"))
        later = notebook_first and not exported
        return drawn, later, -val["n"], -len(card["class_names"]), -share, name

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
    """A checkpoint, loaded once: faces → probabilities.

    The network, its classes, the preprocessing and the crop around a face all come from
    the file. `backend="onnx"` answers by onnxruntime from the .onnx file beside the
    checkpoint (`--export-onnx` writes it), faster for single faces on a CPU. Raises
    FileNotFoundError when a file is missing and ValueError when it is broken, of another
    system, or does not fit the network that its card names.
    """

    def __init__(
        self,
        checkpoint: Path | str | None = None,
        device: torch.device | str = "cpu",
        backend: str = "torch",
        finder: FaceFinder | None = None,
    ) -> None:
        if backend not in BACKENDS:
            raise ValueError(f"backend {backend!r} is none of {', '.join(BACKENDS)}")
        self.path = Path(checkpoint) if checkpoint is not None else default_checkpoint()
        self.device = torch.device(device)
        state, self.card = load_checkpoint(self.path)
        try:
            self.class_names: tuple[str, ...] = tuple(self.card["class_names"])
            self.preprocess = Preprocess(**self.card["preprocess"])
            self.model = systems.restore(state, self.card)
            crop = self.card.get("crop")  # cards without a measured one carry words
            self.crop = CropRule(**crop) if isinstance(crop, dict) else CropRule()
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(
                f"{self.path} does not fit this version of the project ({reason})"
            ) from error
        self.temperature = float(self.card.get("temperature", 1.0))
        self.model.to(self.device, memory_format=torch.channels_last).eval()  # faster on a CPU
        self.network = self.model if backend == "torch" else self.onnx()
        self._finder = finder

    def onnx(self) -> OnnxModel:
        """The .onnx file beside the checkpoint; ValueError where it is of another training."""
        path = self.path.with_suffix(".onnx")
        how = f"python predict.py --export-onnx --checkpoint {self.path}"
        if not path.exists():
            raise FileNotFoundError(f"there is no {path}; {how} writes it")
        network = OnnxModel(path, spin=False)  # torch finds faces between its calls
        if network.card != self.card:
            raise ValueError(f"{path} was exported from another {self.path.name}; again: {how}")
        return network

    @property
    def finder(self) -> FaceFinder:
        """The face detector, made when it is first needed."""
        if self._finder is None:
            self._finder = FaceFinder(device=self.device)
        return self._finder

    @torch.inference_mode()
    def logits(self, images: Sequence[Image.Image]) -> Tensor:
        """Face crops → logits (N, num_classes), preprocessed as validation pictures were."""
        batch = torch.stack([self.preprocess(image) for image in images])
        return self.network(batch.to(self.device)).float().cpu()

    def probabilities(self, images: Sequence[Image.Image]) -> Tensor:
        """Face crops → probabilities (N, num_classes) in the order of `class_names`."""
        return (self.logits(images) / self.temperature).softmax(dim=1)

    def predict_batch(
        self, pictures: Sequence[Picture], top_k: int | None = None
    ) -> list[dict[str, float]]:
        """As `predict` without a box, for several pictures in one pass through the network."""
        if not pictures:
            return []
        probs = self.probabilities([open_picture(picture) for picture in pictures])
        return [dict(list(ranked(row, self.class_names).items())[:top_k]) for row in probs]

    def predict(
        self, picture: Picture, box: Box | None = None, top_k: int | None = None
    ) -> dict[str, float]:
        """Probabilities in [0, 1] of one face by class name, the most likely first.

        `box` is a face's (x, y, width, height) in pixels, as a detector gives it; it is
        cropped as the training pictures were. Without it the whole picture is the face.
        `top_k` keeps the first few. Raises FileNotFoundError or ValueError for a picture
        that cannot be read, ValueError for a box outside it.
        """
        image = open_picture(picture)
        if box is not None:
            image = self.crop(image, inside(box, image))
        return self.predict_batch([image], top_k)[0]

    def find(self, picture: Picture) -> list[Seen]:
        """Every face in a picture with its probabilities, the largest first; [] without faces."""
        return self.find_batch([open_picture(picture)])[0]

    def find_batch(self, images: Sequence[Image.Image]) -> list[list[Seen]]:
        """As `find`, for several opened pictures; all their faces in one pass of the network."""
        found = [self.finder.find(image) for image in images]
        return self.answer(images, found)

    def answer(
        self, images: Sequence[Image.Image], found: Sequence[Sequence[Face]]
    ) -> list[list[Seen]]:
        """Faces that were found in each picture → the same with their probabilities."""
        crops = [
            self.crop(image, face.box, face.tilt)
            for image, faces in zip(images, found, strict=True)
            for face in faces
        ]
        rows = iter(self.probabilities(crops) if crops else ())
        return [
            [Seen(f.box, ranked(next(rows), self.class_names), f.score, f.tilt) for f in faces]
            for faces in found
        ]

    def follower(self, **settings: Any) -> Follower:
        """For frames of one video, one after the other: see `studio.follow.Follower`."""
        return Follower(self.finder, self.crop, self.probabilities, self.class_names, **settings)

    def detect_emotions(
        self, img: np.ndarray | Picture, face_rectangles: Sequence[Box] | None = None
    ) -> list[dict[str, Any]]:
        """As `FER.detect_emotions` of the `fer` package: [{"box": (x, y, w, h), "emotions": {…}}].

        `img` is an OpenCV array (BGR or gray), a path or a PIL picture; probabilities are
        rounded to two decimals, in the order of the classes. `face_rectangles` are boxes
        found elsewhere. The name is that package's: what is told is the expression shown.
        """
        image = open_picture(img)
        if face_rectangles is None:
            seen = self.find(image)
        else:
            boxes = [inside(tuple(int(v) for v in box), image) for box in face_rectangles]
            seen = self.answer([image], [[Face(box, 1.0) for box in boxes]])[0]
        return [
            {"box": s.box, "emotions": {n: round(s.probs[n], 2) for n in self.class_names}}
            for s in seen
        ]

    def top_emotion(self, img: np.ndarray | Picture) -> tuple[str | None, float | None]:
        """As `FER.top_emotion`: (name, probability) of the first face, or (None, None)."""
        answers = self.detect_emotions(img)
        if not answers:
            return None, None
        probs = answers[0]["emotions"]
        name = max(probs, key=probs.__getitem__)
        return name, probs[name]


def inside(box: Box, image: Image.Image) -> Box:
    """The box itself; ValueError when no part of it lies in the picture, or it is far larger."""
    x, y, width, height = box
    if min(x + width, image.width) <= max(x, 0) or min(y + height, image.height) <= max(y, 0):
        raise ValueError(f"box {box} holds no part of a {image.width} × {image.height} picture")
    if max(width, height) > 3 * max(image.size):
        raise ValueError(f"box {box} is far larger than a {image.width} × {image.height} picture")
    return box


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Find faces in pictures and videos and name the expression each shows."
    )
    add = parser.add_argument
    add(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="picture, video, folder, pattern or http(s) address",
    )
    add("--checkpoint", help="default: the first of checkpoints/ (see --list)")
    add("--whole", action="store_true", help="each picture is one face already, cropped")
    add("--top-k", type=int, metavar="K", help="show only the K most likely classes")
    add("--json", action="store_true", help="one JSON list on standard output, for programs")
    add("--csv", type=Path, metavar="FILE", help="one row a face")
    add("--annotate", type=Path, metavar="DIR", help="pictures and videos with boxes drawn")
    add(
        "--webcam",
        nargs="?",
        const="0",
        metavar="CAMERA",
        help="live, in a window: q quits, s saves a screenshot",
    )
    add(
        "--smallest",
        type=float,
        default=0.06,
        metavar="SHARE",
        help="smallest face, as a share of the picture's longer side (default 0.06)",
    )
    add("--allow-private", action="store_true", help="also fetch addresses inside the own network")
    add("--backend", choices=BACKENDS, default="torch")
    add("--export-onnx", action="store_true", help="write the checkpoint as .onnx beside it")
    add("--list", action="store_true", help="list the checkpoints and stop")
    return parser  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit code 0, 2 when anything could not be answered, 130 when interrupted."""
    args = arguments_parser().parse_args(arguments)
    try:
        return act(args)
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was answered so far is kept", file=sys.stderr)
        return 130


def act(args: argparse.Namespace) -> int:
    """Does what was asked; raises what went wrong for everything at once."""
    if args.list:
        for name, card in checkpoints().items():
            print(f"{name}: {headline(card)}")
        return 0
    if not (args.inputs or args.export_onnx or args.webcam is not None):
        raise ValueError("no picture given; try: python predict.py photo.jpg")
    if args.top_k is not None and args.top_k < 1:
        raise ValueError(f"--top-k is {args.top_k}; it must be 1 or more")
    finder = FaceFinder(smallest=args.smallest)
    if args.export_onnx:
        predictor = ExpressionPredictor(args.checkpoint, finder=finder)
        path = predictor.path.with_suffix(".onnx")
        worst = export_onnx(predictor.model, predictor.card, path)
        print(f"wrote {path}; logits differ from torch's by {worst:.1e} at most")
        if not args.inputs and args.webcam is None:
            return 0
    predictor = ExpressionPredictor(args.checkpoint, backend=args.backend, finder=finder)
    if args.webcam is not None:
        from studio.webcam import mirror

        return mirror(predictor, args.webcam, args.annotate or Path("out"))
    from studio.commands import answer_all

    return answer_all(predictor, args)


if __name__ == "__main__":
    sys.exit(main())
