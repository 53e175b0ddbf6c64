"""Write an ONNX graph node by node: names for its values, constants stored once, branches.

Why by hand: torch's exporters cannot trace a search whose number of scales and of boxes depends on
the picture; with ONNX's own `Loop` and `If` it is about a hundred nodes.
Needs onnx. Source of the operators' meaning: ONNX operator schemas, opset 17.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["FLOAT", "INT64", "Graph", "Value"]

Value = str  # the name of a tensor in the graph
FLOAT, INT64, BOOL, UINT8 = (
    TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.UINT8,
)  # fmt: skip
OPSET, IR_VERSION = 17, 8  # what onnxruntime 1.20 and its build for browsers both run


class Graph:
    """Nodes and constants as they are added; `model` makes a file of them."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[tuple[bytes, tuple[int, ...], str], Any] = {}
        self.count = 0

    def name(self, base: str) -> Value:
        self.count += 1
        return f"{base}_{self.count}"

    def constant(self, value: Any, dtype: type = np.float32) -> Value:
        """A constant tensor; the same one is stored once."""
        array = np.ascontiguousarray(value, dtype).reshape(np.shape(value))
        key = (array.tobytes(), array.shape, array.dtype.str)
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(array, self.name("constant"))
        return self.constants[key].name

    def whole(self, *values: int) -> Value:
        """A vector of whole numbers."""
        return self.constant(values, np.int64)

    def add(self, kind: str, *inputs: Value, **attributes: Any) -> Value:
        """A node with one output."""
        return self.add_many(kind, inputs, 1, **attributes)[0]

    def add_many(
        self, kind: str, inputs: Sequence[Value], outputs: int, **attributes: Any
    ) -> list[Value]:
        """A node with several outputs."""
        names = [self.name(kind.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=names[0], **attributes))
        return names

    def call(self, value: Value, name: Value) -> None:
        """Give a value the name under which the file returns it."""
        self.nodes.append(helper.make_node("Identity", [value], [name], name=name))

    # --- what is needed again and again ---

    def cast(self, value: Value, kind: int) -> Value:
        return self.add("Cast", value, to=kind)

    def part(self, value: Value, axis: int, start: int, stop: int) -> Value:
        return self.add(
            "Slice", value, self.whole(start), self.whole(stop), self.whole(axis)
        )  # fmt: skip

    def column(self, value: Value, index: int) -> Value:
        """Column `index` of (K, n) as (K,)."""
        return self.flat(self.part(value, 1, index, index + 1))

    def columns(self, value: Value, start: int, stop: int) -> Value:
        return self.part(value, 1, start, stop)

    def flat(self, value: Value) -> Value:
        return self.add("Reshape", value, self.whole(-1))

    def rows(self, value: Value, index: Value) -> Value:
        return self.add("Gather", value, index, axis=0)

    def where(self, condition: Value) -> Value:
        """Indices (K,) at which a vector is true."""
        return self.flat(self.add("NonZero", condition))

    def shape(self, value: Value, start: int, stop: int) -> Value:
        """Part of a tensor's shape, as whole numbers."""
        return self.part(self.add("Shape", value), 0, start, stop)

    def all_of(self, condition: Value) -> Value:
        """A vector of booleans → one, of shape (1,)."""
        whole = self.cast(condition, INT64)
        return self.cast(self.add("ReduceMin", whole, axes=[0], keepdims=1), BOOL)

    # --- branches ---

    @contextmanager
    def branch(self) -> Iterator[list[Any]]:
        """Nodes added inside belong to a branch; they may use all values from before."""
        outer, self.nodes = self.nodes, []
        try:
            yield self.nodes
        finally:
            self.nodes = outer

    def choose(self, condition: Value, yes: "Branch", no: "Branch") -> Value:
        """The one value of the branch that the condition takes."""
        graphs = [
            helper.make_graph(nodes, value, [], [tensor(value, FLOAT, shape)])
            for nodes, value, shape in (yes, no)
        ]
        return self.add("If", condition, then_branch=graphs[0], else_branch=graphs[1])

    def model(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> onnx.ModelProto:
        """The whole as an ONNX model, checked. Raises onnx's errors where it is none."""
        graph = helper.make_graph(
            self.nodes, name, inputs, outputs, list(self.constants.values())
        )  # fmt: skip
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
            producer_name="expression-detect",
        )  # fmt: skip
        onnx.checker.check_model(model, full_check=True)
        return model


Branch = tuple[list[Any], Value, Sequence[Any]]  # nodes, the value they give, its shape


def tensor(name: Value, kind: int, shape: Sequence[Any]) -> Any:
    """What a graph says about an input or output; a shape may hold names and None."""
    return helper.make_tensor_value_info(name, kind, shape)
