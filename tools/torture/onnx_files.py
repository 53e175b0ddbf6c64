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
        if rng.random() < 0.25:
            model = onnx.ModelProto()
            model.CopyFrom(self.model)
            value = broken_json(self.card, rng)
            text = json.dumps(value).encode("utf-8", "replace").decode()
            helper.set_model_props(model, {CARD_KEY: text})
            content = model.SerializeToString()
        else:
            content = broken_bytes(self.whole, self.whole[::-1], rng)
        self.answer(content, folder)

    def control(self, folder: Path) -> None:
        if self.answer(self.whole, folder) != self.first:
            raise Wrong("the whole network")
