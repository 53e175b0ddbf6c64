"""The programs and commands of README.md and docs/ work as they stand there.

A reader copies a block as it is. The mistake this prevents: a function or an option gets another
name, and a page goes on quoting the old one.
"""

import importlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import demo
from benchmarks.server_clients import running_server
from expression.bulk.command import arguments_parser as label_parser
from expression.bulk.label import in_this_process, label
from expression.bulk.sources import Source
from expression.bulk.worker import Settings
from expression.cli import arguments_parser
from expression.video import VideoWriter
from lab.datasets import ferplus_file
from lab.parsing import parse

pytestmark = pytest.mark.slow

ROOT = Path(demo.__file__).parent
PAGES = [ROOT / "README.md", ROOT / "web" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
ADDRESS = "http://127.0.0.1:7860"
SERVER = "http://127.0.0.1:8000"
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
ANSWER_BOX = (180, 58, 89, 114)  # of the astronaut's face, as the pages quote it


def blocks(language: str, *words: str) -> list[str]:
    """Blocks of a language that contain all these words."""
    return [text for kind, text in BLOCKS if kind == language and all(w in text for w in words)]


def commands() -> Iterator[list[str]]:
    """Every command of the bash blocks as words, those that talk to the demo left out."""
    for text in blocks("bash"):
        if "curl" in text:
            continue
        for line in re.sub(r"\\\n", " ", text).splitlines():
            if re.match(r"\w+=\$\(", line):
                continue  # a variable of the shell
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z0-9_]+=.*", words[0]):
                words.pop(0)  # a variable for this command
            if words:
                yield words


# --- commands ---


def check_make(words: list[str]) -> None:
    target, *variables = words
    phony = re.search(r"^\.PHONY: (.*)", MAKEFILE, re.MULTILINE)
    assert phony and target in phony[1].split(), f"no target {target}"
    values = dict(variable.split("=", 1) for variable in variables)
    for name in values:
        assert re.search(rf"^{name} *\?=", MAKEFILE, re.MULTILINE), f"no variable {name}"
    shown = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    commands = shown.stdout.replace("\\\n", " ").splitlines()
    for called in (line.partition("experiments.py ")[2] for line in commands):
        if called:
            parse(shlex.split(called))


def check_expression(words: list[str]) -> None:
    if words[0] == "label":
        label_parser().parse_args(words[1:])
    else:
        arguments_parser().parse_args(words)


def check_ray(words: list[str]) -> None:
    from ray.scripts import scripts

    known = {name for option in getattr(scripts, words[0]).params for name in option.opts}
    assert {word.partition("=")[0] for word in words[1:]} <= known


def check_python(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if words[0] == "predict.py":
        check_expression(words[1:])
    elif words[0] == "experiments.py":
        parse(words[1:])
    else:  # whatever else there is, its help names the options
        module = words.pop(1) if words[0] == "-m" else Path(words[0]).stem
        with pytest.raises(SystemExit):
            importlib.import_module(module).main(["--help"])
        known = capsys.readouterr().out
        missing = [word for word in words[1:] if word.startswith("--") and word not in known]
        assert not missing, f"{module} has no {missing}"


def check_extras(what: str) -> None:
    """What pip installs of this repository: "." or ".[name,name]"."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = project.partition("[project.optional-dependencies]")[2].partition("[project.")[0]
    known = re.findall(r"^(\w+) = \[", extras, re.MULTILINE)
    asked = re.fullmatch(r"\.(?:\[([\w,]+)\])?", what)
    assert known and asked and set(filter(None, (asked[1] or "").split(","))) <= set(known), what


def after_launcher(words):
    """The command of ours that a launcher starts: python, our program, its options."""
    if words[0] not in ("srun", "torchrun", "accelerate"):
        return words
    return ["python", *words[words.index("experiments.py") :]]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_command_exists_with_its_options(words, capsys):
    program, *rest = after_launcher(words)
    if program == "make":
        check_make(rest)
    elif program == "python":
        check_python(rest, capsys)
    elif program == "expression":
        check_expression(rest)
    elif program == "ray":
        check_ray(rest)
    elif program == "pip" and rest[-1].startswith("."):
        check_extras(rest[-1])
    elif program in ("docker", "kubectl"):  # the files that they are given
        pairs = zip(rest, rest[1:], strict=False)
        files = [word for option, word in pairs if option == "-f" and "." in word]
        assert all((ROOT / name).is_file() for name in files)
    else:
        required = (ROOT / "requirements.txt").read_text(encoding="utf-8")
        assert program == "pip" or re.search(rf"^{program}\W", required, re.MULTILINE)
        files = [word for word in rest if re.fullmatch(r"[\w-]+\.(txt|ipynb)", word)]
        assert files or program == "tensorboard"
        assert not [name for name in files if not (ROOT / name).is_file()]


def test_commands_in_sentences_exist():
    named = re.findall(r"`python ([\w/]+\.py)|`make ([a-z-]+)", TEXT)
    assert named
    for file, target in named:
        if file:
            assert (ROOT / file).is_file()
        else:
            check_make([target])


def test_extras_in_sentences_exist():
    (sentence,) = re.findall(r"^Extras of .*$", TEXT, re.MULTILINE)
    for name in re.findall(r"`(\w+)`", sentence):
        check_extras(f".[{name}]")


def test_every_source_of_data_has_a_command_that_is_understood():
    rows = re.findall(r"^\|.*`python experiments\.py (.*--data.*?)` \|$", TEXT, re.MULTILINE)
    sources = {parse(shlex.split(row))[0].data for row in rows}
    assert {"owner/name", "kaggle:owner/name", "my_faces", "facial_expressions"} <= sources
    assert any(ferplus_file.FERPLUS_ADDRESS in row for row in rows)


def anchors(page: Path) -> set[str]:
    """The places in a page that a link may name: its headings, as GitHub writes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" in target:
                continue
            name, _, place = target.partition("#")
            there = page.parent / name if name else page
            assert there.exists(), f"{page.name}: {target}"
            assert not place or place in anchors(there), f"{page.name}: {target}"


def test_every_block_is_checked_here():
    assert {kind for kind, _ in BLOCKS} == {"bash", "python"}


# --- programs ---


@pytest.fixture(scope="module")
def desk(astronaut, tmp_path_factory) -> Path:
    """A folder where the pages' programs find what they name: pictures, a video, the package."""
    folder = tmp_path_factory.mktemp("desk")
    astronaut.save(folder / "photo.jpg", quality=95)
    astronaut.crop((140, 20, 310, 190)).save(folder / "face.jpg", quality=95)
    with VideoWriter(folder / "clip.mp4") as video:
        for k in range(3):
            video.write(astronaut, k / 5)
    shutil.copytree(ROOT / "expression", folder / "expression")
    (folder / "checkpoints").mkdir()
    for ending in (".safetensors", ".onnx"):
        shutil.copy(ROOT / "checkpoints" / f"expression{ending}", folder / "checkpoints")
    return folder


@pytest.fixture(scope="module")
def address(desk) -> Iterator[str]:
    """A running demo of the same checkpoint."""
    app = demo.page(demo.make_handlers(desk / "checkpoints"))
    _, url, _ = app.launch(prevent_thread_lock=True, quiet=True)
    yield url.rstrip("/")
    app.close()


def run(desk: Path, *command: str) -> str:
    """What a program prints; it must end well."""
    done = subprocess.run(command, cwd=desk, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("program", blocks("python", "ExpressionPredictor", "photo.jpg"))
def test_program_with_pictures(desk, program):
    assert str(ANSWER_BOX) in program
    printed = run(desk, sys.executable, "-c", program)
    box = [int(number) for number in re.findall(r"\d+", printed)[:4]]
    # Another version of a JPEG decoder may move the box by a few pixels
    assert np.abs(np.subtract(box, ANSWER_BOX)).max() <= 6
    assert "happy" in printed.splitlines()[0]


def test_program_with_a_video(desk):
    (program,) = blocks("python", "clip.mp4")
    lines = run(desk, sys.executable, "-c", program).splitlines()
    assert len(lines) == 3 and all("face 1: happy" in line for line in lines)


def test_program_that_asks_the_demo(desk, address):
    (program,) = blocks("python", "gradio_client")
    assert ADDRESS in program
    program = program.replace(ADDRESS, address) + "print(len(faces), faces[0]['probabilities'])"
    assert "1 {'happy'" in run(desk, sys.executable, "-c", program)


def test_program_that_reads_labels(desk):
    (program,) = blocks("python", "labels/faces")
    source, out = Source([str(desk / "photo.jpg")]), desk / "labels"
    label(source, str(out), Settings("expression"), in_this_process)
    printed = run(desk, sys.executable, "-c", program + "print(len(faces), *faces['label'])")
    assert printed.split() == ["1", "happy"]


def test_curl_asks_the_demo(desk, address):
    (program,) = blocks("bash", "curl", "gradio_api")
    assert ADDRESS in program
    assert '"label":"happy"' in run(desk, "bash", "-c", program.replace(ADDRESS, address)).replace(
        ": ", ":"
    )


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A running server for programs."""
    with running_server() as (port, _):
        yield f"http://127.0.0.1:{port}"


def test_curl_asks_the_server_for_programs(desk, server):
    (program,) = blocks("bash", "curl", SERVER)
    assert program.count(SERVER) == program.count("curl") == 3
    printed = run(desk, "bash", "-c", program.replace(SERVER, server))
    assert printed.count('"label":"happy"') == 3 and '"error"' not in printed


def test_program_that_asks_the_server_for_programs(desk, server):
    (program,) = blocks("python", SERVER)
    assert SERVER in program
    program += "\nprint([face['label'] for face in faces_in(open('photo.jpg', 'rb').read())])"
    assert run(desk, sys.executable, "-c", program.replace(SERVER, server)).strip() == "['happy']"
