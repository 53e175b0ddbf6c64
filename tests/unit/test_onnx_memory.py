"""A small .onnx file takes no more memory than a network deserves, neither loaded nor run.

Each is opened by a program of its own, whose largest size the system tells.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from expression.checkpoint import CARD_KEY
from expression.onnx_network import INPUTS, OnnxNetwork

ROOT = Path(__file__).resolve().parents[2]
OPEN = """
import json, resource, sys
from pathlib import Path
import numpy as np
from expression.onnx_network import OnnxNetwork, open_session
open_session(Path("expression/weights/faces.onnx"))
size = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
said, before = "", size()
try:
    OnnxNetwork(sys.argv[1])(np.zeros((1, 1, 48, 48), np.float32))
except ValueError as error:
    said = str(error)
print(json.dumps([said, size() - before]))
"""
SIDE = 20_000  # 20,000 × 20,000 numbers: 1.6 GB


def write(path: Path, nodes: list, weights: dict[str, np.ndarray], outputs: list) -> Path:
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 1, 48, 48])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, outputs)
    held = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", [images], [logits], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {CARD_KEY: json.dumps({"class_names": ["a"]})})
    onnx.save(model, path)
    return path


def constant(path: Path) -> Path:
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["logits"])]
    return write(path, nodes, {"shape": np.array([SIDE, SIDE])}, ["M", "K"])


def enlarged(path: Path) -> Path:
    nodes = [helper.make_node("Resize", ["images", "", "", "sizes"], ["logits"])]
    return write(path, nodes, {"sizes": np.array([1, 1, SIDE, SIDE])}, [1, 1, SIDE, SIDE])


def padded(path: Path) -> Path:
    nodes = [helper.make_node("Pad", ["images", "pads"], ["logits"])]
    pads = np.array([0, 0, SIDE, SIDE, 0, 0, 0, 0])
    return write(path, nodes, {"pads": pads}, ["N", 1, "H", "W"])


def folded(path: Path) -> Path:
    """Twenty products of two vectors, each 64 MB: onnxruntime computes them when it loads."""
    side = 4000
    weights = {"a": np.ones((side, 1), np.float32), "b": np.ones((1, side), np.float32)}
    nodes = []
    for k in range(20):
        weights[f"k{k}"] = np.float32([k])
        nodes += [
            helper.make_node("Mul", ["a", f"k{k}"], [f"a{k}"]),
            helper.make_node("MatMul", [f"a{k}", "b"], [f"c{k}"]),
            helper.make_node("ReduceMax", [f"c{k}"], [f"d{k}"], axes=[0, 1], keepdims=0),
        ]
    nodes.append(helper.make_node("Sum", ["images", *(f"d{k}" for k in range(20))], ["logits"]))
    return write(path, nodes, weights, ["N", 1, 48, 48])


@pytest.mark.parametrize("make", [constant, enlarged, padded, folded])
def test_a_small_file_takes_little_memory(make, tmp_path: Path) -> None:
    path = make(tmp_path / "greedy.onnx")
    assert path.stat().st_size < 50_000
    done = subprocess.run([sys.executable, "-c", OPEN, str(path)], cwd=ROOT, capture_output=True,
                          text=True, timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    said, megabytes = json.loads(done.stdout)
    assert make is folded or str(path) in said
    assert megabytes < 250, said


def test_many_faces_go_through_a_network_in_parts(tmp_path: Path) -> None:
    # 2,000 faces at once took 2.2 GB
    nodes = [helper.make_node("ReduceMean", ["images"], ["logits"], axes=[2, 3], keepdims=0)]
    network = OnnxNetwork(write(tmp_path / "mean.onnx", nodes, {}, ["N", 1]))
    images = np.random.default_rng(0).random((300, 1, 48, 48), np.float32)
    assert len(images) * 48 * 48 > 2 * INPUTS
    np.testing.assert_allclose(network(images), images.mean((2, 3)), rtol=1e-5)
    assert network(images[:0]).shape == (0, 1)
