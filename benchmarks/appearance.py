"""How well cheap descriptors tell one person's face from another's, and which the tracker uses.

    python -m benchmarks.appearance --faces path/to/muxspace.tar --write

Muxspace's file names are names of people. The people are dealt into three parts: on one (a third)
the projection is fitted, on the second (a sixth) the three levels of `expression.appearance` are
set, by rates of false joins that are fixed below; the third part, half of the people, only measures
them. Different days: two pictures of one person, harder than a video. Jittered: a picture beside
a copy that is moved, scaled, turned, lighter or darker, blurred and noisy, easier than a video.
`--write` replaces the file of weights; `--times` measures nothing but the time again.
"""

import re
import sys
import tarfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter

from benchmarks import harness
from benchmarks.subjects import (
    WEIGHTS,
    Appearance,
    ExpressionPredictor,
    Face,
    FaceFinder,
    Tracker,
    atomic_write,
    gradients,
    upright_gray,
)

NAME = re.compile(r".*/images/(.+)_\d{4}\.jpg")
FALSE_JOINS = {"same": 0.001, "near": 0.01}  # of pairs of different people
MISSED_DAYS = 0.05  # share of one person's pairs, of different days, that "other" may part
KEPT, OUTPUTS = 200, 128  # principal components before the discriminant, and numbers after it
Shown = list[tuple[Image.Image, Face]]


def read_people(tar: Path, count: int, most: int) -> dict[str, Shown]:
    """{person: pictures with their face}: of the first `count` who have two or more, `most` each.

    A person of whom fewer than two faces are found has an empty list.
    """
    finder, rng = FaceFinder(smallest=0.3, pixels=0), np.random.default_rng(0)
    people: dict[str, Shown] = {}
    with tarfile.open(tar) as archive:
        members = defaultdict(list)
        for member in archive:
            if match := NAME.fullmatch(member.name):
                members[match[1]].append(member)
        several = sorted(name for name, found in members.items() if len(found) > 1)
        for person in several[:count]:
            found = members[person]
            chosen = [found[i] for i in rng.permutation(len(found))[:most]]
            contents = dict.fromkeys(archive.extractfile(m).read() for m in chosen)
            pictures = [Image.open(BytesIO(content)).convert("L") for content in contents]
            shown = [(p, faces[0]) for p in pictures if (faces := finder.find_batch([p])[0])]
            people[person] = shown if len(shown) > 1 else []
    if len(people) < 60:
        raise ValueError(f"{tar} has {len(people)} people with two pictures or more; 60 are needed")
    return people


def jittered(image: Image.Image, face: Face, rng: np.random.Generator) -> tuple[Image.Image, Face]:
    """The same picture as another moment of a video might show it."""
    x, y, width, height = face.box
    scale = np.exp(rng.normal(0, 0.06))
    x += rng.normal(0, 0.04) * width - width * (scale - 1) / 2
    y += rng.normal(0, 0.04) * height - height * (scale - 1) / 2
    box = (round(x), round(y), round(width * scale), round(height * scale))
    pixels = np.asarray(image, np.float32) * rng.uniform(0.6, 1.5) + rng.uniform(-25, 25)
    pixels += rng.normal(0, 4, pixels.shape)
    other = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    other = other.filter(ImageFilter.GaussianBlur(max(rng.uniform(-2, 2), 0)))
    side = int(rng.integers(40, image.width + 1))
    other = other.resize((side, side)).resize(image.size)
    return other, replace(face, box=box, tilt=face.tilt + rng.normal(0, 3))


# --- the projection ---


def fit_projection(
    vectors: np.ndarray, copies: np.ndarray, person: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and Fisher's discriminant (D, OUTPUTS) of vectors and their jittered copies."""
    mean = vectors.mean(0)
    axes = np.linalg.svd(vectors - mean, full_matrices=False)[2][:KEPT].T
    inside = (vectors - mean) @ axes
    means = np.stack([inside[person == k].mean(0) for k in range(person.max() + 1)])
    within = 1.5 * np.cov((inside - means[person]).T)  # of two or three pictures: too small a mean
    within += 0.25 * np.cov(((copies - mean) @ axes - inside).T)
    within += 0.03 * np.trace(within) / len(within) * np.eye(len(within))
    sizes, turn = np.linalg.eigh(within)
    white = turn / np.sqrt(sizes)
    order = np.linalg.eigh(white.T @ np.cov(inside.T) @ white)[1][:, ::-1]
    return mean, axes @ white @ order[:, :OUTPUTS]


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


# --- rates ---


def similarities(
    vectors: np.ndarray, copies: np.ndarray, person: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of pairs of different people, of one person's pictures, of pictures and their copies."""
    every = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
    alike = (person[:, None] == person)[np.triu_indices(len(vectors), 1)]
    return every[~alike], every[alike], (vectors * copies).sum(1)


def rates(level: float, pairs: Sequence[np.ndarray]) -> dict[str, float]:
    """The share of pairs at or above a level, of each kind."""
    kinds = ("different_people", "different_days", "jittered")
    shares = (round(float((values >= level).mean()), 4) for values in pairs)
    return {"level": round(level, 4), **dict(zip(kinds, shares, strict=True))}


def network_features() -> Callable[[Image.Image, Face], np.ndarray]:
    """What the served network feeds its last layer, for comparison."""
    import onnx
    import onnxruntime

    predictor = ExpressionPredictor("expression")
    model = onnx.load(predictor.path.with_suffix(".onnx"))
    name = [n.input[0] for n in model.graph.node if n.op_type == "Gemm"][-1]
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)

    def features(image: Image.Image, face: Face) -> np.ndarray:
        crop = predictor.preprocess(predictor.crop(image, face.box, face.tilt))
        return session.run([name], {"images": np.asarray(crop, np.float32)[None]})[0].mean(0)

    return features


def compare(parts: list[dict[str, Shown]], seed: int, write: bool) -> list[dict[str, Any]]:
    """A row for each descriptor, on the held-out people; with `write`, the weights are replaced."""
    rng, shown, copies, person = np.random.default_rng(seed), [], [], []
    for part in parts:
        shown.append([s for pictures in part.values() for s in pictures])
        copies.append([jittered(*s, rng) for s in shown[-1]])
        person.append(np.repeat(np.arange(len(part)), [len(p) for p in part.values()]))

    def described(describe: Callable[[Image.Image, Face], np.ndarray]) -> list[list[np.ndarray]]:
        return [[np.stack([describe(*s) for s in x]) for x in pair] for pair in
                zip(shown, copies, strict=True)]  # fmt: skip

    def thumb(image: Image.Image, face: Face) -> np.ndarray:
        small = upright_gray(image, face).reshape(16, 3, 16, 3).mean((1, 3)).ravel()
        return small - small.mean()

    def row(name: str, made: list[list[np.ndarray]]) -> tuple[dict[str, Any], dict[str, float]]:
        known, held = (similarities(*made[k], person[k]) for k in (1, 2))
        levels = {k: float(np.quantile(known[0], 1 - rate)) for k, rate in FALSE_JOINS.items()}
        levels["other"] = float(np.quantile(known[1], MISSED_DAYS))
        return {"descriptor": name, **{k: rates(v, held) for k, v in levels.items()}}, levels

    made = {"gray 16 × 16": described(thumb), "network's features": described(network_features())}
    made["gradients"] = described(lambda image, face: gradients(upright_gray(image, face)))
    rows = [row(name, [[unit(v) for v in p] for p in made[name]])[0] for name in made]
    for name in ("network's features", "gradients"):
        mean, projection = fit_projection(*made[name][0], person[0])
        mean, projection = mean.astype(np.float16), projection.astype(np.float16)
        found, levels = row(
            f"{name}, projected", [[unit((v - mean) @ projection) for v in p] for p in made[name]]
        )
        rows.append(found)
    if write:  # of the gradients
        with atomic_write(WEIGHTS) as file:
            np.savez_compressed(file, mean=mean, projection=projection, **levels)
    return rows


def table(told: dict[str, Any]) -> str:
    heads = ["Descriptor", *(f"{k}: {kind}" for k in FALSE_JOINS
             for kind in ("false joins", "different days", "jittered"))]  # fmt: skip
    keys = ("different_people", "different_days", "jittered")
    return harness.markdown_table(heads, (
        [row["descriptor"], *(f"{row[k][key]:.2%}" for k in FALSE_JOINS for key in keys)]
        for row in told["rows"]))  # fmt: skip


class ThreeFaces:
    """A finder that finds three faces at their places, at no cost."""

    def __init__(self) -> None:
        self.faces = [Face((60 + 400 * i, 200, 200, 260), 0.99, 5.0) for i in range(3)]

    def find_batch(self, images: Sequence[Image.Image]) -> list[list[Face]]:
        return [self.faces]

    def follow(self, image: Image.Image, faces: Sequence[Face]) -> list[Face]:
        return list(faces)


def milliseconds(rounds: int, frames: int = 300) -> dict[str, float]:
    """Processor time that appearance adds to a frame of 1280 × 720 at 30 frames a second.

    The least of the rounds, as other work on the machine slows some of them: the mean of all
    frames, and the slowest frame in a hundred.
    """
    noise = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    frame, times = Image.fromarray(noise), defaultdict(list)
    for _ in range(rounds):
        for name, appearance in {"with": Appearance(), "without": None}.items():
            tracker = Tracker(
                ThreeFaces(), lambda *face: frame, lambda crops: np.full((len(crops), 2), 0.5),
                ("a", "b"), appearance=appearance,
            )  # fmt: skip
            spent = []
            for index in range(frames):
                start = time.thread_time()
                tracker(frame, index / 30)
                spent.append(1000 * (time.thread_time() - start))
            times[name].append((np.mean(spent), np.quantile(spent, 0.99)))
    mean, slowest = np.min(times["with"], axis=0) - np.min(times["without"], axis=0)
    return {"three_faces": round(float(mean), 3), "slowest_of_100": round(float(slowest), 3)}


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = harness.parser("appearance", __doc__, rounds=5)
    add = parser.add_argument
    add("--faces", type=Path, required=True, metavar="TAR", help="Muxspace, as GitHub packs it")
    add("--people", type=harness.positive, default=1445, help="default: 1445")
    add("--most", type=harness.positive, default=3, help="pictures of a person (default: 3)")
    add("--seed", type=int, default=1, help="deals the people")
    add("--write", action="store_true", help=f"replace {WEIGHTS.name}")
    add("--times", action="store_true", help="measure the time again, and keep the rates")
    args = harness.parse(parser, arguments)
    if args.times and (told := harness.read_json(args.out)):
        harness.write_json(args.out, {**told, "milliseconds": milliseconds(args.rounds)})
        return 0
    people = read_people(args.faces, args.people, args.most)
    names = np.random.default_rng(args.seed).permutation(sorted(people)).tolist()
    half = len(names) // 2
    bounds = [0, half * 2 // 3, half, len(names)]
    parts = [
        {name: people[name] for name in names[a:b] if people[name]}
        for a, b in zip(bounds, bounds[1:], strict=False)
    ]
    rows = compare(parts, args.seed, args.write)
    about = harness.record(
        "appearance", arguments, torch.device("cpu"), ("numpy", "pillow"), seed=args.seed,
        faces=args.faces.name, rounds=args.rounds, false_joins=FALSE_JOINS,
        missed_days=MISSED_DAYS, people=[len(part) for part in parts],
        pictures=[sum(map(len, part.values())) for part in parts],
    )  # fmt: skip
    told = {**about, "rows": rows, "milliseconds": milliseconds(args.rounds)}
    harness.write_json(args.out, told)
    print(table(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
