"""MTCNN's three networks as ONNX nodes, from the weights of facenet-pytorch.

Each takes images normalised to [-1, 1] and gives one row of numbers a window: first the logit of a
face (the difference of the package's two outputs: its sigmoid is their softmax), then the four
moves of the box's corners in units of the window, and from the last network the eyes' places.
Source: Zhang et al. 2016, arXiv 1604.02878; weights of facenet-pytorch 2.5.3 (MIT).
"""

from collections.abc import Mapping

import numpy as np

from lab.detector.onnx_graph import Graph, Value

__all__ = ["first_network", "last_network", "second_network"]

Weights = Mapping[str, np.ndarray]  # by the names of facenet-pytorch's modules
EYES = [0, 1, 5, 6]  # of the last network's ten: x of five points, then their y


def first_network(graph: Graph, weights: Weights, images: Value) -> Value:
    """PNet, (1, 3, H, W) → (1, 5, h, w): a window of 12 pixels every 2 pixels."""
    x = max_pool(graph, conv_prelu(graph, weights, 1, images), 2, 2)
    x = conv_prelu(graph, weights, 3, conv_prelu(graph, weights, 2, x))
    weight, bias = rows_of(weights, "conv4_1", "conv4_2")
    return convolution(graph, x, weight, bias)


def second_network(graph: Graph, weights: Weights, images: Value) -> Value:
    """RNet, (K, 3, 24, 24) → (K, 5)."""
    x = max_pool(graph, conv_prelu(graph, weights, 1, images), 3, 2)
    x = max_pool(graph, conv_prelu(graph, weights, 2, x), 3, 2)
    x = dense_prelu(graph, weights, 4, conv_prelu(graph, weights, 3, x), (64, 3, 3))
    return dense(graph, x, *rows_of(weights, "dense5_1", "dense5_2"))


def last_network(graph: Graph, weights: Weights, images: Value) -> Value:
    """ONet, (K, 3, 48, 48) → (K, 9): the last four are x of both eyes, then y."""
    x = max_pool(graph, conv_prelu(graph, weights, 1, images), 3, 2)
    x = max_pool(graph, conv_prelu(graph, weights, 2, x), 3, 2)
    x = max_pool(graph, conv_prelu(graph, weights, 3, x), 2, 2)
    x = dense_prelu(graph, weights, 5, conv_prelu(graph, weights, 4, x), (128, 3, 3))
    weight, bias = rows_of(weights, "dense6_1", "dense6_2")
    eyes_weight, eyes_bias = weights["dense6_3.weight"][EYES], weights["dense6_3.bias"][EYES]
    weight, bias = np.concatenate([weight, eyes_weight]), np.concatenate([bias, eyes_bias])
    return dense(graph, x, weight, bias)


# --- layers ---


def convolution(graph: Graph, x: Value, weight: np.ndarray, bias: np.ndarray) -> Value:
    kernel = list(weight.shape[2:])
    return graph.add(
        "Conv", x, graph.constant(weight), graph.constant(bias), kernel_shape=kernel
    )  # fmt: skip


def conv_prelu(graph: Graph, weights: Weights, number: int, x: Value) -> Value:
    """Convolution and PReLU as a maximum, which runs faster than the operator PRelu.

    PReLU is max(x, a·x) for a slope a ≤ 1 and the minimum for a > 1. Those channels are computed
    with the opposite sign, which makes it a maximum too, and are turned back: exactly equal.
    """
    weight, bias = weights[f"conv{number}.weight"], weights[f"conv{number}.bias"]
    slope = weights[f"prelu{number}.weight"][:, None, None]
    sign = np.where(slope > 1, -1, 1).astype(np.float32)
    x = convolution(graph, x, weight * sign[..., None], bias * sign.ravel())
    x = graph.add("Max", x, graph.add("Mul", x, graph.constant(slope)))
    return x if (sign > 0).all() else graph.add("Mul", x, graph.constant(sign))


def max_pool(graph: Graph, x: Value, size: int, stride: int) -> Value:
    return graph.add(
        "MaxPool", x, kernel_shape=[size, size], strides=[stride, stride], ceil_mode=1
    )  # fmt: skip


def dense_prelu(
    graph: Graph, weights: Weights, number: int, x: Value, shape: tuple[int, int, int]
) -> Value:
    """Images of a shape (C, H, W) as vectors through a dense layer and PReLU.

    facenet-pytorch lists the pixels as (W, H, C), ONNX as (C, H, W): the weights are reordered.
    """
    weight = weights[f"dense{number}.weight"]
    channels, height, width = shape
    weight = weight.reshape(-1, width, height, channels).transpose(0, 3, 2, 1)
    weight = weight.reshape(len(weight), -1)
    x = graph.add("Reshape", x, graph.whole(-1, channels * height * width))
    x = dense(graph, x, weight, weights[f"dense{number}.bias"])
    return graph.add("PRelu", x, graph.constant(weights[f"prelu{number}.weight"]))


def dense(graph: Graph, x: Value, weight: np.ndarray, bias: np.ndarray) -> Value:
    return graph.add("Gemm", x, graph.constant(weight), graph.constant(bias), transB=1)


def rows_of(weights: Weights, faces: str, moves: str) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of one layer that gives a face's logit and the four moves."""
    weight, bias = weights[f"{faces}.weight"], weights[f"{faces}.bias"]
    return (
        np.concatenate([weight[1:] - weight[:1], weights[f"{moves}.weight"]]),
        np.concatenate([bias[1:] - bias[:1], weights[f"{moves}.bias"]]),
    )
