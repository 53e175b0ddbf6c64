"""Assemble the face detector as one ONNX file, from picture to boxes: search and follow.

    python -m lab.detector.assemble                 writes expression/weights/faces.onnx

Inputs: `picture` (H, W, 3 or 4) uint8, RGB or RGBA, at least 12 pixels a side; `finest` (1,), the
smallest face searched for as a share of the longer side; `least` (1,), the score in (0, 1) from
which something counts as a face; `held` (M, 4), corners of faces to follow, empty to search.
Outputs, K faces: `boxes` (K, 4) corners in pixels, `scores` (K,) in [0, 1], `eyes` (K, 2, 2) their
places (x, y), and `which` (K,) the row of `held` that each one was.
Left to the caller: scaling the picture down, removing doubles, sorting.

Why one file: Python and the page in a browser run the same search. A test compares it with
the package's own networks in torch.
Needs onnx and facenet-pytorch 2.5.3, whose weights these are (MIT).
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from expression.face_detector import DETECTOR
from expression.files import atomic_write
from expression.terminal import escape_unprintable
from lab.detector import networks
from lab.detector.onnx_graph import BOOL, FLOAT, INT64, UINT8, Branch, Graph, Value, tensor

__all__ = ["assemble", "read_weights"]

CELL, STRIDE, FACTOR = 12, 2, 0.709  # window of the first network; the step between scales
HALVES = 5  # the picture at a half, a quarter, … : 640 pixels down to 20
MOST = (
    1000,
    1000,
    400,
    100,
)  # boxes kept on a scale, of all scales, by the second and last network
FIRST_SCORE, SECOND_SCORE = 0.6, 0.7  # from which a window counts as a face
ANY_LOGIT = -1e9


def read_weights() -> list[networks.Weights]:
    """Weights of the first, second and last network. Raises ImportError without the package."""
    import torch
    from facenet_pytorch.models.mtcnn import ONet, PNet, RNet

    with torch.random.fork_rng(devices=[]):  # networks draw random weights before they load theirs
        states = [network().state_dict() for network in (PNet, RNet, ONet)]
    return [{name: value.numpy() for name, value in state.items()} for state in states]


def assemble(weights: Sequence[networks.Weights]) -> onnx.ModelProto:
    """The detector, from the weights of its first, second and last network."""
    graph = Graph()
    halves = pyramid(graph)
    with graph.branch() as searching:
        boxes = search(graph, weights[0], halves)
        boxes = second_look(graph, weights[1], halves, boxes)
    with graph.branch() as following:
        held = squared(graph, "held")
    follow = graph.add("Greater", graph.shape("held", 0, 1), graph.whole(0))
    corners = [None, 4]
    boxes = graph.choose(follow, (following, held, corners), (searching, boxes, corners))
    # People who are followed may stand one before the other: none is removed.
    overlap = graph.add("Where", follow, graph.constant([1.0]), graph.constant([0.7]))
    last_look(graph, weights[2], halves, boxes, overlap)
    return graph.model(
        "faces",
        [
            tensor("picture", UINT8, ["H", "W", "C"]),
            tensor("finest", FLOAT, [1]),
            tensor("least", FLOAT, [1]),
            tensor("held", FLOAT, ["M", 4]),
        ],
        [
            tensor("boxes", FLOAT, ["K", 4]),
            tensor("scores", FLOAT, ["K"]),
            tensor("eyes", FLOAT, ["K", 2, 2]),
            tensor("which", INT64, ["K"]),
        ],
    )


# --- the three looks ---


def pyramid(graph: Graph) -> list[Value]:
    """The picture (1, 3, H, W), normalised, and the same at a half, a quarter, … of its size."""
    rgb = graph.part("picture", 2, 0, 3)
    x = graph.add("Unsqueeze", graph.add("Transpose", rgb, perm=[2, 0, 1]), graph.whole(0))
    x = graph.add("Sub", graph.cast(x, FLOAT), graph.constant(127.5))
    halves = [graph.add("Div", x, graph.constant(128.0))]
    for _ in range(HALVES):
        halves.append(
            graph.add(
                "AveragePool", halves[-1], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1
            )
        )  # fmt: skip
    return halves


def search(graph: Graph, weights: networks.Weights, halves: list[Value]) -> Value:
    """The first network over all scales → squares (K, 4) that may hold a face."""
    size = graph.cast(graph.shape(halves[0], 2, 4), FLOAT)
    longer = graph.add("ReduceMax", size, axes=[0], keepdims=1)
    shorter = graph.add("ReduceMin", size, axes=[0], keepdims=1)
    cell = graph.constant([float(CELL)])
    # The finest scale: `finest` fills a window, and the shorter side at least one
    side = graph.add("Div", cell, "finest")
    side = graph.add("Max", side, graph.add("Div", graph.add("Mul", longer, cell), shorter))
    scale = graph.add("Div", graph.add("Min", side, longer), longer)
    with graph.branch() as nodes:
        boxes, scores = look_at_scale(graph, weights, halves, size, "scale")
        boxes = graph.add("Concat", "boxes_before", boxes, axis=0)
        scores = graph.add("Concat", "scores_before", scores, axis=0)
        coarser = graph.add("Mul", "scale", graph.constant([FACTOR]))
        more = fits(graph, shorter, coarser)
    body = helper.make_graph(
        nodes,
        "look_at_scale",
        [
            tensor("round", INT64, []),
            tensor("go_on", BOOL, []),
            tensor("scale", FLOAT, [1]),
            tensor("boxes_before", FLOAT, [None, 4]),
            tensor("scores_before", FLOAT, [None]),
        ],
        [
            tensor(more, BOOL, []),
            tensor(coarser, FLOAT, [1]),
            tensor(boxes, FLOAT, [None, 4]),
            tensor(scores, FLOAT, [None]),
        ],
    )
    nothing = graph.constant(np.zeros((0, 4))), graph.constant(np.zeros(0))
    start = ("", fits(graph, shorter, scale), scale, *nothing)
    _, boxes, scores = graph.add_many("Loop", start, 3, body=body)
    kept = without_doubles(graph, boxes, scores, *limits(graph, 0.7, 0), MOST[1])
    return squared(graph, graph.rows(boxes, kept))


def look_at_scale(
    graph: Graph, weights: networks.Weights, halves: list[Value], size: Value, scale: Value
) -> tuple[Value, Value]:
    """The first network at one scale → boxes (K, 4) in pixels of the picture, logits (K,)."""
    small = graph.cast(graph.add("Round", graph.add("Mul", size, scale)), INT64)
    shape = graph.add("Concat", graph.whole(1, 3), small, axis=0)
    shape = graph.add("Max", shape, graph.whole(1, 3, CELL, CELL))
    small = graph.part(shape, 0, 2, 4)
    rows = networks.first_network(graph, weights, shrunk(graph, halves, small, shape))
    width = graph.shape(rows, 3, 4)
    rows = graph.add("Transpose", graph.add("Reshape", rows, graph.whole(5, -1)), perm=[1, 0])
    logits = graph.column(rows, 0)
    hit = graph.where(graph.add("GreaterOrEqual", logits, graph.constant(logit(FIRST_SCORE))))
    rows, logits = graph.rows(rows, hit), graph.rows(logits, hit)
    x, y = graph.add("Mod", hit, width), graph.add("Div", hit, width)
    places = [graph.add("Unsqueeze", v, graph.whole(1)) for v in (x, y)]
    corner = graph.add("Mul", graph.cast(graph.add("Concat", *places, axis=1), FLOAT),
                       graph.constant(float(STRIDE)))  # fmt: skip
    cell = graph.constant(float(CELL))
    window = graph.add("Concat", corner, graph.add("Add", corner, cell), axis=1)
    moves = graph.add("Mul", graph.columns(rows, 1, 5), cell)
    boxes = graph.add("Div", graph.add("Add", window, moves), scale)
    kept = without_doubles(graph, boxes, logits, *limits(graph, 0.5, 0), MOST[0])
    return graph.rows(boxes, kept), graph.rows(logits, kept)


def second_look(
    graph: Graph, weights: networks.Weights, halves: list[Value], boxes: Value
) -> Value:
    """The second network at squares → fewer and better squares."""
    images, boxes, _ = patches(graph, halves, boxes, 24)
    rows = networks.second_network(graph, weights, images)
    better, _ = moved(graph, boxes, rows)
    better, logits = squared(graph, better), graph.column(rows, 0)
    kept = without_doubles(graph, better, logits, *limits(graph, 0.7, SECOND_SCORE), MOST[2])
    return graph.rows(better, kept)


def last_look(
    graph: Graph, weights: networks.Weights, halves: list[Value], boxes: Value, overlap: Value
) -> None:  # fmt: skip
    """The last network at squares → the outputs of the file."""
    images, boxes, order = patches(graph, halves, boxes, 48)
    rows = networks.last_network(graph, weights, images)
    better, side = moved(graph, boxes, rows)
    logits = graph.column(rows, 0)
    odds = graph.add("Div", "least", graph.add("Sub", graph.constant(1.0), "least"))
    kept = without_doubles(graph, better, logits, overlap, graph.add("Log", odds), MOST[3])
    eyes = graph.add("Reshape", graph.columns(rows, 5, 9), graph.whole(-1, 2, 2))
    eyes = graph.add("Transpose", eyes, perm=[0, 2, 1])  # (K, eye, x or y)
    corner = graph.add("Unsqueeze", graph.columns(boxes, 0, 2), graph.whole(1))
    eyes = graph.add("Mul", eyes, graph.add("Unsqueeze", side, graph.whole(1)))
    eyes = graph.add("Add", corner, eyes)
    scores = graph.add("Sigmoid", logits)
    for value, name in ((better, "boxes"), (scores, "scores"), (eyes, "eyes"), (order, "which")):
        graph.call(graph.rows(value, kept), name)


# --- pictures at other sizes ---


def shrunk(
    graph: Graph, halves: list[Value], size: Value, shape: Value, step: int = HALVES
) -> Value:
    """The picture at a size (H, W), from the smallest half that is no smaller than that.

    `shape` is (1, 3, H, W), for the operator that resizes.
    """

    def resized() -> Value:
        return graph.add("Resize", halves[step], "", "", shape, mode="linear",
                         coordinate_transformation_mode="half_pixel")  # fmt: skip

    if step == 0:
        return resized()
    images = [1, 3, None, None]
    have = graph.shape(halves[step], 2, 4)
    enough = graph.all_of(graph.add("GreaterOrEqual", have, size))
    with graph.branch() as nodes:
        yes: Branch = (nodes, resized(), images)
    with graph.branch() as nodes:
        no: Branch = (nodes, shrunk(graph, halves, size, shape, step - 1), images)
    return graph.choose(enough, yes, no)


def patches(
    graph: Graph, halves: list[Value], boxes: Value, size: int
) -> tuple[Value, Value, Value]:
    """Squares (K, 4) → (K, 3, size, size), the squares and their rows, ordered by half.

    Each is cut from the half in which four samples a pixel are enough: averaging over all pixels of
    a large face would cost more than the network that looks at it.
    """
    side = graph.add("Sub", graph.column(boxes, 2), graph.column(boxes, 0))
    side = graph.add("Div", graph.add("Max", side, graph.constant(1.0)), graph.constant(2.0 * size))
    step = graph.add("Div", graph.add("Log", side), graph.constant(math.log(2)))
    step = graph.add("Clip", graph.add("Ceil", step), graph.constant(0.0),
                     graph.constant(float(HALVES)))  # fmt: skip
    images, order = [], []
    for number, half in enumerate(halves):
        here = graph.where(graph.add("Equal", step, graph.constant(float(number))))
        first_picture = graph.add("Mul", here, graph.constant(0, np.int64))
        images.append(
            graph.add("RoiAlign", half, graph.rows(boxes, here), first_picture, mode="avg",
                      output_height=size, output_width=size, sampling_ratio=2,
                      spatial_scale=0.5**number, coordinate_transformation_mode="half_pixel")
        )  # fmt: skip
        order.append(here)
    rows = graph.add("Concat", *order, axis=0)
    return graph.add("Concat", *images, axis=0), graph.rows(boxes, rows), rows


# --- boxes: corners (K, 4) ---


def squared(graph: Graph, boxes: Value) -> Value:
    """Squares around the same centres, as large as the longer side."""
    low, high = graph.columns(boxes, 0, 2), graph.columns(boxes, 2, 4)
    half = graph.constant(0.5)
    centre = graph.add("Mul", graph.add("Add", low, high), half)
    reach = graph.add("ReduceMax", graph.add("Sub", high, low), axes=[1], keepdims=1)
    reach = graph.add("Mul", reach, half)
    return graph.add(
        "Concat", graph.add("Sub", centre, reach), graph.add("Add", centre, reach), axis=1
    )  # fmt: skip


def moved(graph: Graph, boxes: Value, rows: Value) -> tuple[Value, Value]:
    """Boxes with the moves that a network's rows tell, and their sides (K, 2) before."""
    side = graph.add("Sub", graph.columns(boxes, 2, 4), graph.columns(boxes, 0, 2))
    sides = graph.add("Concat", side, side, axis=1)
    return graph.add("Add", boxes, graph.add("Mul", graph.columns(rows, 1, 5), sides)), side


def without_doubles(
    graph: Graph, boxes: Value, logits: Value, overlap: Value, least: Value, most: int
) -> Value:
    """Rows of the boxes to keep: the best first, none that overlaps a better one by more."""
    kept = graph.add(
        "NonMaxSuppression", graph.add("Unsqueeze", boxes, graph.whole(0)),
        graph.add("Unsqueeze", logits, graph.whole(0, 1)), graph.whole(most), overlap, least,
    )  # fmt: skip
    return graph.column(kept, 2)


def limits(graph: Graph, overlap: float, score: float) -> tuple[Value, Value]:
    """The two thresholds of `without_doubles`; score 0 means all that were chosen before."""
    return graph.constant([overlap]), graph.constant([logit(score) if score else ANY_LOGIT])


def fits(graph: Graph, shorter: Value, scale: Value) -> Value:
    """Whether the picture at this scale is at least as large as a window."""
    side = graph.add("Mul", shorter, scale)
    enough = graph.add("GreaterOrEqual", side, graph.constant([CELL - 1e-3]))
    return graph.add("Squeeze", enough, graph.whole(0))


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def main(arguments: Sequence[str]) -> int:
    escape_unprintable()
    path = Path(arguments[0]) if arguments else DETECTOR
    model = assemble(read_weights())
    with atomic_write(path) as file:
        file.write(model.SerializeToString())
    print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
