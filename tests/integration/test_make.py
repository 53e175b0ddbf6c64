"""`make` sets up once, says what it does and stops with a sentence; the notebook runner keeps
nothing of a run that failed.

Real environments and real pip, but packages of a few bytes: a torch that weighs nothing shows
the same mistakes.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
RUNNER = ROOT / "tools" / "run_notebook.py"
NMS = 'raise RuntimeError("operator torchvision::nms does not exist")'


# --- make ---


def wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> None:
    """Write a package that pip can install: {path inside: text}."""
    info = f"{name}-{version}.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


class House:
    """A copy of the Makefile and its tools beside a demo that only says how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "house"
        self.wheels = folder / "wheels"
        self.wheels.mkdir(parents=True)
        self.folder.mkdir()
        shutil.copy(ROOT / "Makefile", self.folder)
        shutil.copytree(
            ROOT / "tools", self.folder / "tools", ignore=shutil.ignore_patterns("__pycache__")
        )
        self.write("requirements.txt", "torch\ntorchvision\npage\n")
        self.write("requirements-demo.txt", "-c requirements.txt\npage\n")
        shutil.copytree(ROOT / ".ci", self.folder / ".ci")
        self.write("requirements-dev.txt", "-r requirements.txt\npytest\nruff\nmypy\n")
        self.write("demo.py", "import sys; print('demo runs', *sys.argv[1:])")
        wheel(self.wheels, "page", "1.2", {"page/__init__.py": ""})
        wheel(self.wheels, "torch", "2.15.0", {"torch/__init__.py": ""})
        wheel(self.wheels, "torchvision", "0.29.2", {"torchvision/__init__.py": ""})
        wheel(
            self.wheels,
            "pytest",
            "9.0",
            {
                "pytest/__init__.py": "",
                "pytest/__main__.py": "import sys; print('3 failed, 4 passed')\n"
                "sys.exit(int(sys.argv[1]) if sys.argv[1].isdigit() else 0)",
            },
        )
        for name in ("ruff", "mypy"):  # they find fault where a file of their name lies
            program = f"import os, sys; print('{name} ran'); sys.exit(os.path.exists('{name}'))"
            files = {f"{name}/__init__.py": "", f"{name}/__main__.py": program}
            wheel(self.wheels, name, "1.0", files)

    def write(self, name: str, text: str) -> Path:
        (self.folder / name).write_text(text)
        return self.folder / name

    def installed(self, pattern: str) -> list[str]:
        """Folders in the environment's site-packages of such a name."""
        return sorted(path.name for path in (self.folder / ".venv/lib").glob(f"*/*/{pattern}"))

    def stub(self, body: str) -> Path:
        """A PYTHON that is something else."""
        path = self.write("stub-python", f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    def make(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("make", *words)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("MAKE", "MFLAGS", "PIP_"))
            and key not in ("PYTHON", "VENV", "PORT", "ARGS", "STATUS", "PYTHONPATH", "CONSTRAINTS")
        }
        environment |= {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_CONFIG_FILE": os.devnull,
            "LC_ALL": "C",
        }
        if not any(word.startswith("PYTHON=") for word in words):
            beside = self.folder.parent / "bin"  # so that `python3` is the Python of this test
            beside.mkdir(exist_ok=True)
            if not (beside / "python3").exists():
                (beside / "python3").symlink_to(sys._base_executable)  # type: ignore[attr-defined]
                # Nothing is to be installed on this machine
                for name in ("chromium", "Xvfb", "npm"):
                    (beside / name).symlink_to("/bin/true")
            environment["PATH"] = f"{beside}{os.pathsep}{environment['PATH']}"
        return subprocess.run(
            words,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[House, Any]:
    """A house, and what its first `make demo` said."""
    house = House(tmp_path_factory.mktemp("make"))
    return house, house.make("demo", "PORT=7999")


@pytest.fixture
def house(first: tuple[House, Any]) -> House:
    return first[0]


def test_first_call_sets_up_and_second_only_looks(first: tuple[House, Any]) -> None:
    house, done = first
    assert done.returncode == 0, done.stderr
    assert "Making the environment .venv" in done.stdout
    assert "Installing requirements-demo.txt" in done.stdout
    assert "demo runs --port 7999" in done.stdout
    assert house.installed("page") and not house.installed("torch*"), "gigabytes before a face"

    began = time.perf_counter()
    again = house.make("demo")
    assert time.perf_counter() - began < 5
    assert again.returncode == 0
    assert "Making" not in again.stdout and "Installing" not in again.stdout
    assert "http://127.0.0.1:7860" in again.stdout and "demo runs --port 7860" in again.stdout


def test_tests_need_more_than_the_demo(house: House) -> None:
    done = house.make("test", "ARGS=0")
    assert done.returncode == 0 and "Installing requirements-dev.txt" in done.stdout
    assert house.installed("torch") and house.installed("pytest")
    assert "Installing" not in house.make("test", "ARGS=0").stdout
    assert "Installing" not in house.make("demo").stdout  # it had all of it already


def test_failing_tests_fail_make_and_the_status_file_keeps_the_last_line_pytests(
    house: House,
) -> None:
    assert house.make("test", "ARGS=1").returncode != 0
    done = house.make("test", "ARGS=5", "STATUS=status")
    assert (house.folder / "status").read_text().strip() == "5"
    assert (done.stdout + done.stderr).splitlines()[-1] == "3 failed, 4 passed"


def test_constraints_install_the_tested_versions_and_nothing_else_asks_for_them(
    tmp_path: Path,
) -> None:
    # Without them pip takes the newest of a range, and a broken release breaks `make demo`.
    house = House(tmp_path)
    wheel(house.wheels, "page", "1.1", {"page/__init__.py": ""})
    assert house.make("demo").returncode == 0
    assert house.installed("page-*") == ["page-1.2.dist-info"]
    house.write("constraints.txt", "page==1.1\nnot-asked-for==1.0\n")
    done = house.make("demo", "CONSTRAINTS=constraints.txt")
    assert done.returncode == 0 and "demo runs" in done.stdout, done.stderr
    assert house.installed("page-*") == ["page-1.1.dist-info"]
    assert not house.installed("not_asked_for*")
    assert "Installing" not in house.make("demo", "CONSTRAINTS=constraints.txt").stdout

    missing = house.make("demo", "CONSTRAINTS=gone.txt")
    assert missing.returncode != 0 and "gone.txt is not a file" in missing.stderr


@pytest.mark.parametrize("fault", ["", "ruff", "mypy"])
def test_ci_fails_with_its_checks_and_ends_in_the_summary_of_the_tests(
    house: House, fault: str
) -> None:
    # A check before the tests that only prints would let every mistake through
    if fault:
        house.write(fault, "")
    done = house.run("bash", ".ci/run")
    if fault:
        (house.folder / fault).unlink()
    assert done.returncode == (1 if fault else 0), done.stderr
    assert "ruff ran" in done.stdout and "mypy ran" in done.stdout
    assert (done.stdout + done.stderr).splitlines()[-1] == "3 failed, 4 passed"


def test_interrupted_installation_is_taken_up_again(house: House) -> None:
    mark = house.folder / ".venv" / ".installed-requirements-demo.txt"
    before = mark.read_text()
    house.write("requirements-demo.txt", "-c requirements.txt\npage\nlatecomer\n")
    stopped = house.make("demo")
    assert stopped.returncode != 0 and "demo runs" not in stopped.stdout
    assert "did not finish" in stopped.stderr and "takes it up again" in stopped.stderr
    assert mark.read_text() == before, "a failed installation must not be marked as done"

    wheel(house.wheels, "latecomer", "1.0", {"latecomer/__init__.py": ""})
    done = house.make("demo")
    assert done.returncode == 0 and "Successfully installed latecomer" in done.stdout


def test_broken_pair_is_named_before_the_demo_starts(house: House) -> None:
    # The demo does without torch; where it is installed, the demo's maps come from it
    house.make("test", "ARGS=0")
    packages = next((house.folder / ".venv").glob("lib/python3*/site-packages"))
    good = (packages / "torchvision" / "__init__.py").read_text()
    (packages / "torchvision" / "__init__.py").write_text(NMS)
    os.utime(packages / "torchvision-0.29.2.dist-info" / "RECORD")  # as pip leaves it
    done = house.make("demo")
    assert done.returncode != 0 and "demo runs" not in done.stdout
    assert "torch 2.15.0 and torchvision 0.29.2 do not work together" in done.stderr
    assert "--force-reinstall" in done.stderr and "Traceback" not in done.stderr

    (packages / "torchvision" / "__init__.py").write_text(good)
    assert house.make("demo").returncode == 0  # a failed check is not remembered


def test_moved_environment_is_made_anew(house: House) -> None:
    # Its scripts still point to the old place, where `activate` would lead too. The stub stops
    # before the old environment is cleared: making one takes ten seconds.
    python = house.stub(f'case "$2" in venv) exit 1;; *) exec "{sys.executable}" "$@";; esac')
    house.folder = house.folder.rename(house.folder.with_name("moved"))
    try:
        done = house.make("demo", f"PYTHON={house.folder / python.name}")
        assert "Making the environment .venv" in done.stdout
        assert "it was made in another place" in done.stdout
        assert done.returncode != 0 and "demo runs" not in done.stdout
    finally:
        house.folder = house.folder.rename(house.folder.with_name("house"))


@pytest.mark.parametrize(
    "body, sentence",
    [
        (
            'case "$2" in *print*) echo 3.8;; *) exit 1;; esac',
            "is Python 3.8; 3.10 or newer is needed",
        ),
        (
            f'case "$2" in *ensurepip*) exit 1;; *) exec "{sys.executable}" "$@";; esac',
            "apt-get install python3-venv",
        ),
    ],
    ids=["too old", "no venv module"],
)
def test_unfit_python_is_named(house: House, body: str, sentence: str) -> None:
    done = house.make("demo", "VENV=other", f"PYTHON={house.stub(body)}")
    assert done.returncode != 0 and sentence in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not (house.folder / "other").exists()


def test_absent_python_is_named(house: House) -> None:
    done = house.make("demo", "VENV=other", "PYTHON=python3.99")
    assert done.returncode != 0 and "PYTHON=python3.99 is not found" in done.stderr


def test_a_folder_that_is_no_environment_is_left_alone(house: House) -> None:
    (house.folder / "precious").mkdir(exist_ok=True)
    house.write("precious/thesis.txt", "years of work")
    done = house.make("demo", "VENV=precious")
    assert done.returncode != 0 and "is not a virtual environment" in done.stderr
    assert [path.name for path in (house.folder / "precious").iterdir()] == ["thesis.txt"]


def test_make_alone_lists_the_targets(house: House) -> None:
    done = house.make()
    names = "demo web serve-web test test-fast notebook evidence lint typecheck clean"
    for name in names.split():
        assert f"make {name}" in done.stdout


def test_check_install_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "check_install.py", tmp_path / "tools")
    (tmp_path / "requirements.txt").write_text("# why\nno-such-package>=1,<2\n")
    done = subprocess.run(
        [sys.executable, tmp_path / "tools" / "check_install.py"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "no-such-package" in done.stderr and "pip install -r" in done.stderr


# --- the notebook runner ---


def write_notebook(path: Path, *cells: Any) -> str:
    notebook = new_notebook(cells=list(cells))
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "x", "language": "python"}
    nbformat.write(notebook, path)
    return path.read_text()


def run_notebook(path: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "SMOKE"} | variables
    return subprocess.run(
        [sys.executable, str(RUNNER), str(path), *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=path.parent.parent,
    )


def test_notebook_is_rewritten_from_one_run(tmp_path: Path) -> None:
    # A kernel of the name python3 that somebody installed for another Python must not be taken.
    foreign = tmp_path / "jupyter" / "kernels" / "python3"
    foreign.mkdir(parents=True)
    (foreign / "kernel.json").write_text(
        json.dumps({"argv": ["no-such-python", "-f", "{connection_file}"], "display_name": "x"})
    )
    house = tmp_path / "house"
    house.mkdir()
    (house / "neighbour.py").write_text("answer = 42")
    path = house / "story.ipynb"
    failing = new_code_cell("1 / 0", execution_count=9)
    failing.metadata.tags = ["raises-exception"]  # a mistake shown on purpose
    write_notebook(
        path,
        new_markdown_cell("# The question\n\nProse."),
        new_code_cell("import sys, neighbour\nprint(sys.executable, neighbour.answer)"),
        new_code_cell("for i in range(3): print(f'\\r{i} of 2', end='')", execution_count=7),
        failing,
        new_code_cell("  "),
        new_markdown_cell("## The lesson"),
        new_code_cell("1 + 1"),
    )
    done = run_notebook(path, JUPYTER_PATH=str(tmp_path / "jupyter"))
    assert done.returncode == 0, done.stderr
    assert "The question" in done.stdout and "The lesson" in done.stdout

    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4]
    assert code[0].outputs[0].text.strip() == f"{sys.executable} 42"
    assert code[1].outputs[0].text == "2 of 2"  # of a progress bar, only its end
    assert not any("execution" in cell.metadata for cell in notebook.cells)
    assert notebook.metadata.kernelspec.name == "python3"
    assert [name.name for name in house.glob("story*")] == ["story.ipynb"]

    first = path.read_text()
    assert run_notebook(path).returncode == 0
    assert path.read_text() == first, "a second run of the same story should leave no difference"


def test_failed_run_leaves_the_notebook_untouched(tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    path = tmp_path / "house" / "story.ipynb"
    before = write_notebook(
        path, new_code_cell("good = 1"), new_code_cell("assert good == 2, 'no'")
    )
    done = run_notebook(path)
    assert done.returncode == 1
    assert "Cell [2] failed" in done.stderr and "AssertionError: no" in done.stderr
    assert "\x1b[" not in done.stderr
    assert path.read_text() == before and len(list(path.parent.glob("story*"))) == 1


def test_small_run_is_not_kept_in_the_notebook(tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    path = tmp_path / "house" / "story.ipynb"
    before = write_notebook(path, new_code_cell("import os; os.environ['SMOKE']"))
    done = run_notebook(path, SMOKE="1")
    assert done.returncode == 0, done.stderr
    assert path.read_text() == before
    small = nbformat.read(path.parent / "out" / "story.ipynb", as_version=4)
    assert small.cells[0].outputs[0].data["text/plain"] == "'1'"
