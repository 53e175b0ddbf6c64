"""A checkpoint without an .onnx file is exported when it is first used, where torch is there."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from expression import networks
from expression.app.examples import EXAMPLES
from expression.checkpoint import read_card
from expression.networks import can_answer, first_export, open_network
from expression.onnx_network import OnnxNetwork
from lab import first_use
from lab.export import TorchNetwork, save_network
from lab.models import build

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
# Runs the command line where torch cannot be imported, as on a machine without it
WITHOUT_TORCH = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "facenet_pytorch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
from expression import networks
"""


@pytest.fixture
def own(checkpoint, tmp_path):
    """A user's training: a checkpoint alone in its folder."""
    return Path(shutil.copy(checkpoint, tmp_path / "own.safetensors"))


def without_torch(program):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + program], cwd=ROOT, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip


def images(checkpoint):
    rule = read_card(checkpoint)["preprocess"]
    shape = (3, rule["channels"], rule["size"], rule["size"])
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_it_is_exported_once_and_answers_the_same(own, monkeypatch, capsys):
    network = open_network(own)
    assert isinstance(network, OnnxNetwork) and str(first_export(own)) in capsys.readouterr().err
    wanted = TorchNetwork.load(own)(images(own))
    np.testing.assert_allclose(network(images(own)), wanted, atol=1e-4)

    monkeypatch.setattr(first_use, "export_onnx", lambda *_: pytest.fail("exported again"))
    np.testing.assert_array_equal(open_network(own)(images(own)), network(images(own)))
    assert sorted(path.name for path in own.parent.iterdir()) == [".expression_cache", own.name]


def test_a_damaged_export_is_made_again(own, capsys):
    # A byte that a disk lost would answer for ever: the name is that of the right network
    before = open_network(own)(images(own))
    kept = first_export(own)
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 0xFF
    kept.write_bytes(content)
    capsys.readouterr()
    np.testing.assert_allclose(open_network(own)(images(own)), before, atol=1e-4)
    assert str(kept) in capsys.readouterr().err


def test_a_new_training_of_the_same_name_is_not_answered_by_the_old_export(own, card):
    before = first_export(own)
    before.parent.mkdir()
    before.write_bytes(b"of the old training")
    save_network(own, build("tinyvgg", num_classes=2, in_channels=1, hidden_channels=4), {
        **card, "system_args": {"hidden_channels": 4}})  # fmt: skip
    assert first_export(own) != before
    assert open_network(own)(images(own)).shape == (3, 2)


def test_what_cannot_be_exported_or_written_answers_through_torch(own, monkeypatch, capsys):
    for error in (
        ValueError("no such operator"),
        PermissionError("read-only"),
        ImportError("onnx"),
    ):

        def refuse(*_, error=error):
            raise error

        monkeypatch.setattr(first_use, "export_onnx", refuse)
        assert isinstance(open_network(own), TorchNetwork)
        assert str(error) in capsys.readouterr().err


def test_without_torch_one_sentence_says_what_is_missing(own):
    done = without_torch(
        "from pathlib import Path\n"
        f"assert not networks.has_torch() and not networks.can_answer(Path({str(own)!r}))\n"
        f"for act in (networks.open_network, networks.export):\n"
        f"    try: act(Path({str(own)!r}))\n"
        "    except (OSError, ImportError) as error: print(error)\n"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    opening, exporting = done.stdout.splitlines()
    assert str(own.with_suffix(".onnx")) in opening
    assert all("torch" in line and "[train]" in line for line in (opening, exporting))


def test_an_export_of_the_first_use_answers_without_torch(own):
    assert networks.has_torch() and can_answer(own)
    open_network(own)
    done = without_torch(
        "from pathlib import Path\nfrom expression.predictor import ExpressionPredictor\n"
        f"one = ExpressionPredictor({str(own)!r})\n"
        f"print(len(one.predict({str(EXAMPLES / 'drawn-1.jpg')!r})))\n"
    )
    assert done.stdout.split() == ["3"], done.stderr[-2000:]
