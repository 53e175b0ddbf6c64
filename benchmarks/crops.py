"""What the crop around a detected face is worth: how often the network is right about each crop.

    python -m benchmarks.crops --faces path/to/muxspace --data path/to/fer2013

VALIDATION faces of `--data` are pasted into scenes of 640 × 480, found by the detector, cropped in
several ways and classified; the test set stays closed. `--faces` holds pictures of one face each
(a folder, or a tar as GitHub packs it), for the mosaics among the backgrounds. Nothing is timed.
"""

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks import harness
from benchmarks.scenes import Scenes, hit, read_faces
from benchmarks.subjects import Box, ExpressionPredictor, Face, TorchNetwork, load, percent

__all__ = ["compare_crops", "table"]

Crop = Callable[[Image.Image, Face], Image.Image]
PASTED = 150  # pixels of a validation face in its scene
MOSAIC_FACES = 300
HEADS = ("What is cropped", "Found", "Right", "The same faces, not pasted")


def validation_faces(
    data: str, class_names: Sequence[str], count: int, seed: int
) -> list[tuple[Image.Image, int]]:
    """Random validation pictures of the checkpoint's classes, with the checkpoint's class index."""
    split = load(data, say=lambda text: print(text, file=sys.stderr))["validation"]
    names = split.features["label"].names
    known = [i for i, label in enumerate(split["label"]) if names[label] in class_names]
    chosen = sorted(random.Random(seed).sample(known, min(count, len(known))))
    return [
        (row["image"], list(class_names).index(names[row["label"]])) for row in split.select(chosen)
    ]


def compare_crops(
    predictor: ExpressionPredictor, labelled: Sequence[tuple[Image.Image, int]], scenes: Scenes
) -> list[dict[str, Any]]:
    """A row for each way to crop a pasted face: how often the class is right.

    `right` of `found` faces; the same faces' own pictures, never pasted, are right `uncut` times.
    """
    rule = predictor.crop
    unturned = replace(rule, upright_from=180.0)
    ways: dict[str, tuple[float, Crop]] = {  # name: (turned by degrees, crop)
        "the crop rule": (0, lambda image, face: rule(image, face.box, face.tilt)),
        "the detector's box": (0, lambda image, face: widened(image, face.box, 1)),
        "the box, 40 % wider": (0, lambda image, face: widened(image, face.box, 1.4)),
        "the whole scene": (0, lambda image, face: image),
        "turned 30°: the crop rule": (30, lambda image, face: rule(image, face.box, face.tilt)),
        "turned 30°: not set upright": (30, lambda image, face: unturned(image, face.box)),
    }
    labels = [label for _, label in labelled]
    uncut = correct(predictor, [image for image, _ in labelled], labels)
    rows = [{"cut": "nothing: the picture itself", "right": sum(uncut), "found": len(uncut),
             "uncut": sum(uncut)}]  # fmt: skip
    for angle in (0, 30):
        print(f"crops of faces turned by {angle}° …", file=sys.stderr)
        found: dict[int, tuple[Image.Image, Face]] = {}
        for index, (picture, _) in enumerate(labelled):
            image, place = scenes.scene(picture, PASTED, angle)
            faces = [face for face in predictor.finder.find(image) if hit(face.box, place)]
            if faces:
                found[index] = (image, faces[0])
        for name, (turned, crop) in ways.items():
            if turned == angle:
                crops = [crop(image, face) for image, face in found.values()]
                right = sum(correct(predictor, crops, [labels[i] for i in found]))
                rows.append({"cut": name, "right": right, "found": len(found),
                             "uncut": sum(uncut[i] for i in found)})  # fmt: skip
    return [{**row, "of": len(labelled)} for row in rows]


def widened(image: Image.Image, box: Box, factor: float) -> Image.Image:
    """The box `factor` times as wide and high, as most programs crop; black outside."""
    (x, y, width, height), more = box, (factor - 1) / 2
    corners = (x - more * width, y - more * height,
               x + (1 + more) * width, y + (1 + more) * height)  # fmt: skip
    return image.crop(tuple(round(v) for v in corners))


def correct(
    predictor: ExpressionPredictor, images: Sequence[Image.Image], labels: Sequence[int]
) -> list[bool]:
    answers: list[int] = []
    for start in range(0, len(images), 100):
        answers += predictor.probabilities(images[start : start + 100]).argmax(axis=1).tolist()
    return [answer == label for answer, label in zip(answers, labels, strict=True)]


def table(told: dict[str, Any]) -> str:
    def cells(row: dict[str, Any]) -> Iterator[str]:
        yield from (row["cut"], f"{row['found']}/{row['of']}")
        yield from (percent(row[k], row["found"]) if row["found"] else "–"
                    for k in ("right", "uncut"))  # fmt: skip

    return harness.markdown_table(HEADS, (list(cells(row)) for row in told["rows"]))


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.parser("crops", __doc__, "a data set with a validation split")
    add = parser.add_argument
    add("--faces", type=Path, required=True, metavar="FOLDER_OR_TAR", help="one face a picture")
    add("--checkpoint", help="default: the one that the demo serves")
    add("--count", type=harness.positive, default=500, help="validation faces (default: 500)")
    add("--seed", type=int, default=0)
    args = harness.parse(parser, arguments)
    predictor = ExpressionPredictor(args.checkpoint, load_network=TorchNetwork.load)
    labelled = validation_faces(args.data, predictor.class_names, args.count, args.seed)
    scenes = Scenes(read_faces(args.faces, MOSAIC_FACES, args.seed), args.seed + 1)
    about = harness.record(
        "crops", arguments, torch.device("cpu"), checkpoint=predictor.path.stem,
        data=Path(args.data).name, seed=args.seed, crop=predictor.crop.settings(),
    )  # fmt: skip
    told = {**about, "rows": compare_crops(predictor, labelled, scenes)}
    harness.write_json(args.out, told)
    print(table(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
