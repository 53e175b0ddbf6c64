"""Broken networks in .onnx files: their bytes, and the cards in their metadata."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from expression.checkpoint import CARD_KEY, save_checkpoint
from expression.predictor import ExpressionPredictor
from tools.torture.cards import SIZE, card
from tools.torture.cases import FileAttack, Wrong
from tools.torture.mutate import broken_bytes, broken_json

__all__ = ["Attack", "whole_network"]

SIZES = (-1, 0, 1, 2, 3, 5, 16, 4096, 100_000, 2**31 - 1, 2**62)
LAYERS = ("Relu", "Flatten", "Identity", "Tile", "Expand", "Exp", "Log", "Reciprocal", "Nothing",
          "Loop", "NonZero", "Sqrt")  # fmt: skip


def whole_network(about: dict[str, Any]) -> Any:
    """A small network of the kinds of layers that the served ones have, with its card."""
    rng = np.random.default_rng(0)
    side = SIZE // 2

    def weights(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["images", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "v", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes, "network",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 1, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [weights("w", 2, 1, 3, 3), weights("v", 2 * side * side, 3), weights("bias", 3)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {CARD_KEY: json.dumps(about)})
    return model


class Attack(FileAttack):
    count = 1000
    control_every = 100

    def __init__(self, scratch: Path) -> None:
        self.card = card("tinyvgg", {})
        self.model = whole_network(self.card)
        self.whole = self.model.SerializeToString()
        self.picture = Image.fromarray(np.arange(SIZE * SIZE, dtype=np.uint8).reshape(SIZE, SIZE))
        self.scratch = scratch
        self.first = self.answer(self.whole, scratch)

    def answer(self, content: bytes, folder: Path) -> dict[str, float]:
        """Ask the network as whoever got both files of a checkpoint does."""
        path = folder / "network.safetensors"
        save_checkpoint(path, {"w": np.zeros(1, np.float32)}, self.card)
        path.with_suffix(".onnx").write_bytes(content)
        probs = ExpressionPredictor(path).predict(self.picture)
        shares = list(probs.values())
        if not np.isfinite(shares).all() or abs(sum(shares) - 1) > 1e-3:
            raise Wrong(f"probabilities {shares[:4]}")
        if set(probs) != set(self.card["class_names"]):
            raise Wrong(f"{sorted(probs)[:4]}")
        return probs

    def try_one(self, rng: random.Random, folder: Path) -> None:
        kind = rng.random()
        if kind < 0.4:
            content = self.inside(rng)
        elif kind < 0.6:
            model = onnx.ModelProto()
            model.CopyFrom(self.model)
            value = broken_json(self.card, rng)
            text = json.dumps(value).encode("utf-8", "replace").decode()
            helper.set_model_props(model, {CARD_KEY: text})
            content = model.SerializeToString()
        else:
            content = broken_bytes(self.whole, self.whole[::-1], rng)
        self.answer(content, folder)

    def inside(self, rng: random.Random) -> bytes:
        """A file that is whole as a file, with another network inside, or none."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        graph = model.graph
        for _ in range(rng.choice((1, 1, 2))):
            node, weights = rng.choice(graph.node), rng.choice(graph.initializer)
            kind = rng.randrange(7)
            if kind == 0:
                weights.raw_data = broken_bytes(weights.raw_data, bytes(64), rng)
            elif kind == 1:
                raw = bytearray(weights.raw_data)
                for _ in range(4):
                    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
                weights.raw_data = bytes(raw)
            elif kind == 2:
                weights.dims[rng.randrange(len(weights.dims))] = rng.choice(SIZES)
            elif kind == 3 and node.attribute:
                attribute = rng.choice(node.attribute)
                attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(SIZES)
            elif kind == 4:
                node.op_type = rng.choice(LAYERS)
            elif kind == 5:
                node.input[rng.randrange(len(node.input))] = rng.choice(("", "images", "a", "x"))
            else:
                value = rng.choice((graph.input[0], graph.output[0]))
                dimensions = value.type.tensor_type.shape.dim
                dimensions[rng.randrange(len(dimensions))].dim_value = rng.choice(SIZES)
        content: bytes = model.SerializeToString()
        return content

    def control(self, folder: Path) -> None:
        if self.answer(self.whole, folder) != self.first:
            raise Wrong("the whole network")
