"""Name the expression of every face in a picture, with one trained network.

predictor = ExpressionPredictor()               # load once
predictor.detect_emotions(cv2.imread("photo.jpg"))      # as the `fer` package answers
predictor.find("photo.jpg")                     # [FacePrediction(box, probs, score, tilt), …]
predictor.predict("face.jpg")                   # one face, cropped: {"happy": 0.91, …}
"""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from expression.appearance import default_appearance
from expression.checkpoint import read_card, resolve_checkpoint
from expression.face_detector import CropRule, Face, FaceFinder
from expression.face_prediction import (
    Box,
    FacePrediction,
    check_min_confidence,
    enlarged,
    ranked,
    softmax,
)
from expression.networks import Network, open_network
from expression.onnx_network import first_line
from expression.pictures import Picture, Pictures, as_picture, as_pictures, reduced
from expression.preprocessing import Preprocess
from expression.tracker import Tracker

__all__ = ["ExpressionPredictor", "FacePrediction", "misfit"]


class ExpressionPredictor:
    """A checkpoint, loaded once: faces → probabilities.

    `checkpoint` is a path, a name in checkpoints/ such as "expression", a published network such as
    "hf:owner/name" (see `expression.hub`), or None for the default.
    Classes, preprocessing and the crop around a face come from its card; its network is what
    `load_network(path)` returns, by default the .onnx file beside it or an export of its first
    use (see `expression.networks`). A face whose largest probability lies below `min_confidence`,
    in [0, 1), is answered with "not sure" (see `FacePrediction.label`): None takes the card's
    threshold, 0 turns it off. Raises FileNotFoundError when a file is missing and ValueError when
    it is broken, of another program, or does not fit the network that its card names, or when the
    threshold is out of its range; for a published network also as `expression.hub`.
    """

    def __init__(
        self,
        checkpoint: Path | str | None = None,
        finder: FaceFinder | None = None,
        load_network: Callable[[Path], Network] = open_network,
        min_confidence: float | None = None,
    ) -> None:
        if min_confidence is not None:  # before anything is read
            check_min_confidence(min_confidence)
        self.path = resolve_checkpoint(checkpoint)
        self.card = read_card(self.path)
        try:
            self.class_names: tuple[str, ...] = tuple(self.card["class_names"])
            self.preprocess = Preprocess(**self.card["preprocess"])
            crop = self.card.get("crop")  # cards without a measured one carry words
            self.crop = CropRule(**crop) if isinstance(crop, dict) else CropRule()
            self.temperature = float(self.card.get("temperature", 1.0))
            threshold = self.card.get("min_confidence", 0.0)  # older cards: always sure
            self.min_confidence = check_min_confidence(
                threshold if min_confidence is None else min_confidence
            )
        except (KeyError, TypeError, ValueError) as error:
            raise misfit(self.path, error) from error
        self.network = load_network(self.path)
        self._finder = finder

    @property
    def finder(self) -> FaceFinder:
        """The face detector, loaded when it is first needed."""
        if self._finder is None:
            self._finder = FaceFinder()
        return self._finder

    def logits(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Face crops → logits (N, num_classes) float32, preprocessed as in validation."""
        return self.network(self.preprocess.batch(images))

    def probabilities(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Face crops → probabilities (N, num_classes) in the order of `class_names`."""
        return self.answer(self.preprocess.batch(images))

    def answer(self, inputs: np.ndarray) -> np.ndarray:
        """Preprocessed images (N, C, H, W) → probabilities (N, num_classes).

        Raises ValueError where the network answers what is no number: NaN among its weights, say.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            probs = softmax(self.network(inputs) / self.temperature)
        if not np.isfinite(probs).all():
            raise ValueError(
                f"{self.path} answers what is no number: its weights are broken; take another one"
            )
        return probs

    def predict_batch(self, pictures: Pictures, top_k: int | None = None) -> list[dict[str, float]]:
        """As `predict` without a box, for several pictures in one pass through the network.

        `pictures` is a list, or an array or a tensor (N, …).
        """
        images = as_pictures(pictures)
        if not images:
            return []
        probs = self.probabilities(images)
        return [dict(list(ranked(row, self.class_names).items())[:top_k]) for row in probs]

    def predict(
        self, picture: Picture, box: Box | None = None, top_k: int | None = None
    ) -> dict[str, float]:
        """Probabilities in [0, 1] of one face by class name, the most likely first.

        `picture` is whatever `open_picture` takes: a path, a web address, an OpenCV array, a PIL
        picture, an opened file, its bytes, a torch tensor.
        `box` is a face's (x, y, width, height) in pixels of it, as a detector gives it; it is
        cropped as the training pictures were. Without it the whole picture is the face.
        `top_k` keeps the first few. These are probabilities whatever the threshold; `find` and
        `predict_whole` also say whether the answer is sure. Raises FileNotFoundError or
        ValueError for a picture that cannot be read, ValueError for a box outside it.
        """
        image = as_picture(picture)
        if box is not None:
            image = self.crop(image, check_box(box, image))
        return self.predict_batch([image], top_k)[0]

    def predict_whole(self, pictures: Pictures) -> list[FacePrediction]:
        """Pictures that are one face each, cropped already: the box is the whole picture."""
        images = as_pictures(pictures)
        return [
            enlarged(
                FacePrediction((0, 0, *image.size), probs, min_confidence=self.min_confidence),
                reduced(image),
            )
            for image, probs in zip(images, self.predict_batch(images), strict=True)
        ]

    def find(self, picture: Picture) -> list[FacePrediction]:
        """Every face in a picture with its probabilities, the largest first; [] without faces.

        Boxes are in pixels of what is given: of the file for a path, of the picture for a PIL
        picture or an array. Raises FileNotFoundError or ValueError for what cannot be read.
        """
        return self.find_opened([as_picture(picture)])[0]

    def find_batch(self, pictures: Pictures) -> list[list[FacePrediction]]:
        """As `find`, for several pictures; all their faces in one pass of the network."""
        return self.find_opened(as_pictures(pictures))

    def find_opened(self, images: Sequence[Image.Image]) -> list[list[FacePrediction]]:
        """`find_batch` for pictures from `as_pictures`; boxes in pixels of what was given there."""
        found = self.predict_faces(images, [self.finder.find(image) for image in images])
        return [
            [enlarged(face, reduced(image)) for face in faces]
            for image, faces in zip(images, found, strict=True)
        ]

    def predict_faces(
        self, images: Sequence[Image.Image], faces: Sequence[Sequence[Face]]
    ) -> list[list[FacePrediction]]:
        """Faces that were found in each picture → the same with their probabilities."""
        pairs = zip(images, faces, strict=True)
        inputs = [self.crop_inputs(image, in_image) for image, in_image in pairs]
        rows = iter(self.answer(np.concatenate(inputs)) if any(map(len, inputs)) else ())
        return [self.named(in_image, list(islice(rows, len(in_image)))) for in_image in faces]

    def crop_inputs(self, image: Image.Image, faces: Sequence[Face]) -> np.ndarray:
        """The faces of one picture, cut out and preprocessed: (N, C, H, W) for `answer`."""
        return self.preprocess.batch([self.crop(image, face.box, face.tilt) for face in faces])

    def named(
        self, faces: Sequence[Face], probs: np.ndarray | Sequence[np.ndarray]
    ) -> list[FacePrediction]:
        """Faces with their rows of probabilities (N, num_classes) from `answer`."""
        sure = self.min_confidence
        return [
            FacePrediction(
                f.box, ranked(row, self.class_names), f.score, f.tilt, min_confidence=sure
            )
            for f, row in zip(faces, probs, strict=True)
        ]

    def tracker(self, **settings: Any) -> Tracker:
        """For frames of one video, one after the other: see `expression.tracker.Tracker`."""
        standard = {"min_confidence": self.min_confidence, "appearance": default_appearance()}
        settings = {**standard, **settings}
        return Tracker(self.finder, self.crop, self.probabilities, self.class_names, **settings)

    def detect_emotions(
        self, img: np.ndarray | Picture, face_rectangles: Sequence[Box] | None = None
    ) -> list[dict[str, Any]]:
        """As `FER.detect_emotions` of the `fer` package: [{"box": (x, y, w, h), "emotions": {…}}].

        `img` is an OpenCV array (BGR or gray), a path or a PIL picture; probabilities are
        rounded to two decimals, in the order of the classes. `face_rectangles` are boxes found by
        other means. The method's name is that package's; the answer is the expression shown.
        That package has no "not sure", so `min_confidence` changes nothing here: compare the
        largest probability with it, or use `find`.
        """
        image = as_picture(img)
        if face_rectangles is None:
            predictions = self.find_opened([image])[0]
            boxes = [p.box for p in predictions]
        else:
            boxes = [whole_box(box) for box in face_rectangles]
            faces = [Face(check_box(box, image), 1.0) for box in boxes]
            predictions = self.predict_faces([image], [faces])[0]
        return [
            {"box": box, "emotions": {n: round(p.probs[n], 2) for n in self.class_names}}
            for box, p in zip(boxes, predictions, strict=True)
        ]

    def top_emotion(self, img: np.ndarray | Picture) -> tuple[str | None, float | None]:
        """As `FER.top_emotion`: (name, probability) of the first face, or (None, None).

        The name is always a class, never "not sure": programs written for that package look it
        up among the classes, and judge the probability themselves.
        """
        answers = self.detect_emotions(img)
        if not answers:
            return None, None
        probs = answers[0]["emotions"]
        name = max(probs, key=probs.__getitem__)
        return name, probs[name]


def misfit(checkpoint: Path, error: Exception) -> ValueError:
    """The error to raise where a checkpoint's card or weights are not of a network known here."""
    reason = first_line(error)
    return ValueError(f"{checkpoint} does not fit this version of the project ({reason})")


def whole_box(given: Any) -> Box:
    """A box of any numbers → of integers. Raises ValueError for what is no box."""
    try:
        x, y, width, height = (int(value) for value in given)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"box is {given!r}; give (x, y, width, height) in pixels, as find answers"
        ) from None
    return x, y, width, height


def check_box(given: Any, image: Image.Image) -> Box:
    """A box in pixels of what was given → in the opened picture's, which may be smaller.

    Raises ValueError for what is no box, when no part of it lies in the picture, or when it is far
    larger.
    """
    whole_box(given)
    x, y, width, height = given
    times = reduced(image)
    full = image.width * times, image.height * times
    if min(x + width, full[0]) <= max(x, 0) or min(y + height, full[1]) <= max(y, 0):
        raise ValueError(f"box {given} holds no part of a {full[0]} × {full[1]} picture")
    if max(width, height) > 3 * max(full):
        raise ValueError(f"box {given} is far larger than a {full[0]} × {full[1]} picture")
    if times == 1:
        return given
    return round(x / times), round(y / times), round(width / times), round(height / times)
