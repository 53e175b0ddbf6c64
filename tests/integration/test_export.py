"""An ONNX file answers as the network it was made from, or there is no such file."""

import ast
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from expression import onnx_network
from expression.onnx_network import OnnxNetwork
from expression.preprocessing import Preprocess
from lab import export, models
from lab.export import export_onnx, random_faces

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-5
NETWORKS: dict[str, tuple[int, dict[str, Any]]] = {  # channels, the system's own arguments
    "tinyvgg": (1, {"hidden_channels": 6}),
    "attention_cnn": (1, {"widths": (8, 12)}),
    "resnet18": (3, {}),
    "vit_tiny": (1, {"size": 32, "patch": 8}),
}


def card_of(system: str, channels: int = 1, size: int = 32) -> dict[str, Any]:
    rule = Preprocess(size, "L", channels, mean=(0.5,), std=(0.25,))
    return {
        "system": system,
        "class_names": ["glücklich", "neutral", "sad"],
        "preprocess": rule.settings(),
        "temperature": 1.3,
        "validation": {"k": 31, "n": 45},
    }


def as_trained(model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Random weights, but BatchNorm with statistics and scales of its own, in training mode.

    Fresh, with mean 0 and std 1, it could be left out unnoticed, and hardly anything of a
    picture would reach the logits.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the average of all batches seen
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    with torch.no_grad():
        model.train()(random_faces(16, shape, torch.Generator().manual_seed(1)))
    return model


def flat_network() -> nn.Module:
    """The quickest network to export: one matrix and a dropout, always of the same weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 3))


@pytest.fixture(scope="module", params=NETWORKS)
def pair(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, OnnxNetwork]:
    """(network in training mode, the same as ONNX), from random weights."""
    torch.manual_seed(0)
    channels, arguments = NETWORKS[request.param]
    model = models.build(request.param, num_classes=3, in_channels=channels, **arguments)
    if request.param == "vit_tiny":  # blocks that are alike only take time
        model.blocks = model.blocks[:2]
    if request.param == "resnet18":
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            setattr(model, stage, getattr(model, stage)[:1])
    path = tmp_path_factory.mktemp("onnx") / f"{request.param}.onnx"
    as_trained(model, (channels, 32, 32))
    export_onnx(model, card_of(request.param, channels), path, TOLERANCE)
    assert model.training, "exporting left the network in another mode"
    return model, OnnxNetwork(path, threads=1)


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`flat_network` as ONNX, exported from half precision."""
    model, path = flat_network().half(), tmp_path_factory.mktemp("onnx") / "flat.onnx"
    export_onnx(model, card_of("flat", size=4), path)
    assert model[2].weight.dtype == torch.float16, "exporting changed the caller's network"
    return path


def tampered(source: Path, target: Path, metadata: dict[str, str]) -> Path:
    """A copy of an ONNX file with other metadata."""
    import onnx

    proto = onnx.load(source)
    onnx.helper.set_model_props(proto, metadata)
    onnx.save(proto, target)
    return target


# --- the same network ---


@pytest.mark.parametrize("count", [1, 2, 33])
def test_answers_are_those_of_the_network(pair: tuple[nn.Module, OnnxNetwork], count: int) -> None:
    # An exporter that sees one batch likes to take its size for a constant
    model, exported = pair
    images = random_faces(count, exported.shape, torch.Generator().manual_seed(count))
    with torch.inference_mode():
        wanted = model.eval()(images)
    logits = exported(images.numpy())
    assert logits.dtype == np.float32 and logits.shape == (count, 3)
    np.testing.assert_allclose(logits, wanted, atol=TOLERANCE, rtol=0)
    if count > 2:
        spread = wanted.std(0).min().item()
        assert spread > 100 * TOLERANCE, (
            "these logits hardly heed the picture: nothing was compared"
        )


def test_the_file_is_whole_and_names_no_place(pair: tuple[nn.Module, OnnxNetwork]) -> None:
    # The exporter notes for each node the line of Python, with the folders of the machine
    path = pair[1].path
    content = path.read_bytes()
    assert str(ROOT).encode() not in content and b"site-packages" not in content
    assert [p.name for p in path.parent.iterdir()] == [path.name], "weights or parts lie beside it"


def test_a_network_in_half_precision_is_exported_in_single(flat: Path) -> None:
    images = torch.randn(5, 1, 4, 4)
    wanted = flat_network().half().float().eval()(images).detach()
    np.testing.assert_allclose(OnnxNetwork(flat)(images.double().numpy()), wanted, 1e-5, 1e-6)


def test_the_card_comes_back_as_it_went(flat: Path) -> None:
    assert OnnxNetwork(flat).card == json.loads(json.dumps(card_of("flat", size=4)))


class Keeper(nn.Sequential):
    """As the attention CNN does while somebody looks at its maps."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.kept = images.detach() * 2
        return super().forward(images)


def test_nothing_is_printed(
    flat: Path, tmp_path: Path, capfd: pytest.CaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    # Both libraries like to talk, onnxruntime past Python's own streams
    export_onnx(Keeper(*flat_network()), card_of("flat", size=4), tmp_path / "flat.onnx")
    OnnxNetwork(flat)(np.zeros((2, 1, 4, 4)))
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError):
        OnnxNetwork(tmp_path / "bad.onnx")
    assert capfd.readouterr() == ("", "") and not [str(w.message) for w in recwarn]


# --- what is refused ---


@pytest.mark.parametrize("fault", ["other weights", "no tolerance", "not a number"])
def test_a_file_that_answers_otherwise_leaves_the_old_one(
    fault: str, flat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    monkeypatch.setattr(export, "trace", lambda *_: onnx.load(flat))
    model, card, path = (
        flat_network().half().float(),
        card_of("flat", size=4),
        tmp_path / "flat.onnx",
    )
    export_onnx(model, card, path)  # the network that the file was made from
    good = path.read_bytes()
    if fault == "other weights":
        model[2].bias.data[1] += 0.25
    if fault == "not a number":  # nan > tolerance is False: asked that way, it would pass
        model[2].bias.data[1] = float("nan")
    number = {"other weights": "0.25", "no tolerance": r"\d\S*", "not a number": "nan"}[fault]
    with pytest.raises(ValueError, match=f"flat as ONNX .* differ by up to {number}, and"):
        export_onnx(model, card, path, tolerance=-1 if fault == "no tolerance" else 1e-4)
    assert path.read_bytes() == good and list(tmp_path.iterdir()) == [path]


def test_a_network_that_leaves_torch_is_refused(tmp_path: Path) -> None:
    # HOG is scikit-image's; a traced constant in its place would be one answer for all faces
    model = models.build("hog_svm", num_classes=3, in_channels=1, support=6)
    model.counts.fill_(2)
    with pytest.raises(ValueError, match=r"^system hog_svm cannot be exported .*numpy") as caught:
        export_onnx(model, card_of("hog_svm", size=48), tmp_path / "svm.onnx")
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_card_that_cannot_prepare_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no 'preprocess'; found \['system'\]"):
        export_onnx(flat_network(), {"system": "flat"}, tmp_path / "flat.onnx")
    assert not list(tmp_path.iterdir())


def test_files_that_are_not_ours_are_refused(flat: Path, tmp_path: Path) -> None:
    path = tmp_path / "face.onnx"
    with pytest.raises(FileNotFoundError, match="no ONNX file at"):
        OnnxNetwork(path)
    for content in (b"", b"no network", flat.read_bytes()[:200]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a whole ONNX file") as caught:
            OnnxNetwork(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="of another system"):
        OnnxNetwork(tampered(flat, path, {"author": "somebody"}))
    with pytest.raises(ValueError, match="is not JSON"):
        OnnxNetwork(tampered(flat, path, {"expression": json.dumps(card_of("flat"))[:-9]}))
    with pytest.raises(ValueError, match="no JSON object"):
        OnnxNetwork(tampered(flat, path, {"expression": "[1]"}))


@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 3, 4, 4), (2, 1, 5, 5)])
def test_images_of_another_shape_are_refused(flat: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"takes \(N, 1, 4, 4\)"):
        OnnxNetwork(flat)(np.zeros(shape))


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(
    package: str, flat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs {package}, .* pip install {package}$"):
        export_onnx(flat_network(), card_of("flat", size=4), tmp_path / "flat.onnx")
    assert not list(tmp_path.iterdir())
    if package == "onnxruntime":
        with pytest.raises(ImportError, match="onnxruntime"):
            OnnxNetwork(flat)
    else:
        OnnxNetwork(flat)  # what only exporting needs


def test_importing_is_cheap() -> None:
    # onnxruntime takes a tenth of a second: not before a network is wanted
    body = ast.parse(Path(onnx_network.__file__).read_text(encoding="utf-8")).body
    imports = [ast.unparse(n) for n in body if isinstance(n, ast.Import | ast.ImportFrom)]
    assert imports and not [line for line in imports if "torch" in line or "onnx" in line]
