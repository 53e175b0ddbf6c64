"""The wheel holds what answering needs, and answers in an environment that has nothing else.

The environment is a new one. What pip would install there, by the metadata of the wheel, is linked
from the environment of the tests; so nothing is fetched, and what the metadata forget is missing.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from expression.app.examples import EXAMPLES
from expression.checkpoint import CHECKPOINTS, list_checkpoints
from expression.predictor import ExpressionPredictor

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SERVED = {"expression", "expression_small"}
CROPPED, PHOTO = EXAMPLES / "drawn-1.jpg", EXAMPLES / "portrait.jpg"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built offline from a copy of what is committed."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheels")
    for folder in ("expression", "lab"):
        ignored = shutil.ignore_patterns("__pycache__", "*.pyi")
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", *(p.name for p in ROOT.glob("*.py"))):
        shutil.copy(ROOT / name, copy)
    (copy / "checkpoints").symlink_to(ROOT / "checkpoints")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index",
         "--wheel-dir", out, copy],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (built,) = out.glob("expression_detect-*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def needed(wheel, extra):
    """Names of the packages that pip would install with the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode().partition("\n\n")[0]
    found = set()
    waiting = [(one, extra) for one in re.findall(r"^Requires-Dist: (.+)$", text, re.M)]
    while waiting:
        text, extra = waiting.pop()
        one = Requirement(text)
        if one.marker and not one.marker.evaluate({"extra": extra}):
            continue
        key = canonicalize_name(one.name), *sorted(one.extras)
        if key not in found:
            found.add(key)
            texts = distribution(one.name).requires or []
            waiting += [(text, e) for text in texts for e in ("", *one.extras)]
    return {name for name, *_ in found}


def environment(folder, wheel, extra=""):
    """A new environment with the wheel and what it asks for; returns its Python."""
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    (packages,) = folder.glob("lib/python3*/site-packages")
    for name in needed(wheel, extra):
        found = distribution(name)
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(str(found.locate_file(top))).resolve())
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index",
         wheel],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return python


@pytest.fixture(scope="module")
def light(wheel, tmp_path_factory):
    return environment(tmp_path_factory.mktemp("light"), wheel)


@pytest.fixture
def run(tmp_path):
    """Runs a program, in a folder that has nothing to do with the project, with no way to it."""

    def run(*words):
        hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        outside = {key: value for key, value in os.environ.items() if key not in hidden}
        done = subprocess.run(
            [str(word) for word in words], cwd=tmp_path, env=outside, capture_output=True,
            text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return run


def test_the_wheel_holds_every_module_and_every_file_beside_them(names):
    # The packages are named one by one in pyproject.toml: a new folder is easily forgotten
    wanted = {
        path.relative_to(ROOT).as_posix()
        for room in ("expression", "lab")
        for path in (ROOT / room).rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".pyi")
    }
    assert wanted - names == set()


def test_of_the_checkpoints_it_holds_those_that_are_served(wheel, names):
    inside = {Path(name) for name in names if name.startswith("expression/checkpoints/")}
    assert {path.stem for path in inside} == SERVED
    for ending in (".safetensors", ".onnx"):
        assert {path.stem for path in inside if path.suffix == ending} == SERVED
    whole = sum(path.stat().st_size for path in CHECKPOINTS.glob("*.safetensors"))
    assert wheel.stat().st_size < 20e6 < whole


def test_it_asks_for_nothing_heavy(wheel):
    light, demo = needed(wheel, ""), needed(wheel, "demo")
    assert {"onnxruntime", "numpy", "pillow"} <= light < demo
    assert not demo & {"torch", "torchvision", "facenet-pytorch", "matplotlib", "datasets", "scipy"}


def weight(wheel, extra):
    """MB of what pip would install. Without bytecode: each version of Python writes its own."""
    with zipfile.ZipFile(wheel) as archive:
        total = sum(entry.file_size for entry in archive.infolist())
    for name in needed(wheel, extra):
        found = distribution(name)
        paths = [Path(str(found.locate_file(file))) for file in found.files or ()]
        total += sum(p.stat().st_size for p in paths if p.suffix != ".pyc" and p.exists())
    return total / 1e6


def test_what_it_asks_for_keeps_the_promised_size(wheel):
    # One more package with a large dependency, and nobody notices until the next fresh machine
    assert weight(wheel, "") < 300 and weight(wheel, "demo") < 500


def command(python):
    return python.with_name("expression")


def test_the_command_lists_the_served_checkpoints_from_any_folder(light, run):
    listed = run(command(light), "--list")
    assert [line.partition(":")[0] for line in listed.splitlines()] == [
        name for name in list_checkpoints() if name in SERVED
    ]


def test_pictures_are_answered_as_in_the_clone(light, run):
    (photo,) = json.loads(run(command(light), PHOTO, "--json"))
    here = ExpressionPredictor()
    (seen,) = here.find(PHOTO)
    (face,) = photo["faces"]
    assert tuple(face["box"]) == seen.box and face["expression"] == "happy"
    assert face["probabilities"] == pytest.approx(seen.probs, abs=1e-6)

    small = [CROPPED, "--whole", "--checkpoint", "expression_small"]
    (face,) = json.loads(run(command(light), *small, "--json"))[0]["faces"]
    wanted = ExpressionPredictor("expression_small").predict(CROPPED)
    assert face["probabilities"] == pytest.approx(wanted, abs=1e-6)


def test_answering_in_the_clone_loads_no_torch_where_it_is_installed(run):
    program = (
        f"import os, sys; os.chdir({str(ROOT)!r})\n"
        "from expression import ExpressionPredictor\n"
        f"print(len(ExpressionPredictor().find({str(PHOTO)!r})))\n"
        "print(*{'torch', 'facenet_pytorch', 'lab', 'matplotlib', 'skimage'} & {*sys.modules})"
    )
    assert run(sys.executable, "-c", program).split() == ["1"]


def test_a_video_is_followed_with_its_timeline(light, run, tmp_path):
    program = f"""
import sys
from pathlib import Path
from PIL import Image
from expression.predictor import ExpressionPredictor
from expression.video import VideoWriter
from expression.video_files import follow_video

picture = Image.open({str(PHOTO)!r})
with VideoWriter("clip.mp4") as video:
    for k in range(5): video.write(picture, k / 5)
summary = follow_video(ExpressionPredictor(), "clip.mp4", Path("out"))
print(summary["tracks"], summary["expressions"])
"""
    assert "1 {'happy': 5}" in run(light, "-c", program)
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".mp4", ".csv", ".png"}


def test_the_demo_is_built_from_what_its_extra_installs(wheel, tmp_path_factory, run):
    python = environment(tmp_path_factory.mktemp("demo"), wheel, "demo")
    program = (
        "import demo; from importlib.util import find_spec\n"
        "handlers = demo.make_handlers(demo.CHECKPOINTS)\n"
        "demo.page(handlers)\n"
        f"print(handlers.predict({str(PHOTO)!r}, 'expression'))\n"
        "print([name for name in ('torch', 'skimage', 'matplotlib') if find_spec(name)])"
    )
    answer, heavy = run(python, "-c", program).splitlines()
    assert answer.startswith("{'happy'") and heavy == "[]"
