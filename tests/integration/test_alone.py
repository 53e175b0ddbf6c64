"""Files that travel without their neighbours run alone, and the front doors open only when asked.

Starting Python and importing torch takes seconds, so one process imports the libraries, and each
program runs in a fork of it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.test_house import HELPERS

ROOT = Path(__file__).resolve().parents[2]
ALONE = [ROOT / name for name in HELPERS] + sorted(
    path for path in (ROOT / "lab" / "models").glob("*.py") if path.stem != "__init__"
)
DOORS = ("demo", "predict", "experiments")
# Runs the program in each folder named on standard input, in a fork; writes there what it said.
FORKS = """
import os, runpy, sys, traceback
sys.path[:] = [p for p in sys.path if p not in ("", os.getcwd())]
import datasets, numpy, torch, torchvision, timm, gradio, skimage.feature, sklearn.svm, tqdm
torch.set_num_threads(1)
for line in sys.stdin.read().splitlines():
    folder, program, *path = line.split("\\t")
    if not os.fork():
        os.chdir(folder)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
        sys.path[:0] = path or [folder]
        sys.argv = [program]
        try:
            runpy.run_path(program, run_name="__main__")
            code = 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    os.close(os.open(os.path.join(folder, "passed" if not os.wait()[1] else "failed"), os.O_CREAT))
"""
IMPORT_A_DOOR = """
import threading, {door}
quiet = [t.name for t in threading.enumerate() if "uvicorn" in repr(t).lower()]
assert not quiet, quiet
"""


@pytest.fixture(scope="module")
def run_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each program: `NAME/` holds it, what it said, and whether it passed."""
    home, lines = tmp_path_factory.mktemp("alone"), []
    for path in ALONE:
        (home / path.stem).mkdir()
        shutil.copy(path, home / path.stem)
        lines.append(f"{home / path.stem}\t{path.name}")
    for door in DOORS:
        (home / door).mkdir()
        (home / f"import-{door}.py").write_text(IMPORT_A_DOOR.format(door=door))
        lines.append(f"{home / door}\t{home / f'import-{door}.py'}\t{ROOT}")
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("PYTHONPATH", "EXPRESSION_DATA", "FER2013_DATA")
    }
    environment |= {"PYTHONNOUSERSITE": "1", "PYTHONWARNINGS": "ignore"}
    (home / "empty").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FORKS],
        input="\n".join(lines),
        cwd=home / "empty",
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return home


@pytest.mark.parametrize("name", [path.stem for path in ALONE])
def test_runs_alone_in_an_empty_folder(run_all: Path, name: str) -> None:
    folder = run_all / name
    assert (folder / "passed").exists(), (folder / "stderr").read_text()[-2000:]
    said = (folder / "stdout").read_text().strip()
    assert said, f"python {name}.py printed nothing: show what it does"


@pytest.mark.parametrize("door", DOORS)
def test_importing_a_front_door_does_nothing(run_all: Path, door: str) -> None:
    # `import demo` in a notebook must not start a server, and must leave no file behind.
    folder = run_all / door
    assert (folder / "passed").exists(), (folder / "stderr").read_text()[-2000:]
    assert (folder / "stdout").read_text() == "", "importing printed something"
    left = {path.name for path in folder.iterdir()} - {"stdout", "stderr", "passed"}
    assert not left, "importing wrote something"
