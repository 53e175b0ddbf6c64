"""What an installation costs: seconds and megabytes of a fresh environment, until the first answer.

    python -m benchmarks.install answer demo before fer --before FOLDER → benchmarks/install.json
    python -m benchmarks.install answer --out quick.json

Each is a new environment, filled from the package index without pip's cache, from a copy of this
repository. `answer` is `pip install .`, then the command on a photo; `demo` is `make demo`, until
the page is served; `train` is `pip install ".[train]"`, gigabytes. `before` is an older checkout,
`pip install -r requirements.txt`, then its predict.py; `fer` is that package with what it needs to
start, then a program of four lines with its Haar cascade. Sizes count the bytes of all files; those
of an empty environment (Python's own pip) are left out. "Others' load" is the mean number of other
programs that wanted a core in the minute before (0: the machine was idle). Kinds that are not named
keep the rows that they have in the file.
"""

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks import harness

__all__ = ["KINDS", "megabytes", "table"]

KINDS = {
    "answer": "`pip install .`", "demo": "`make demo`", "train": '`pip install ".[train]"`',
    "before": "before: `pip install -r requirements.txt`", "fer": "`pip install fer` (25.10.3)",
}  # fmt: skip
# Without these limits it did not start: it reads pkg_resources, and OpenCV's Haar cascade.
FER = ("fer==25.10.3", "setuptools<81", "opencv-python-headless<5")
FER_PROGRAM = """
import sys, numpy
from PIL import Image
from fer.fer import FER
image = numpy.asarray(Image.open(sys.argv[1]).convert("RGB"))[..., ::-1].copy()
print(FER(mtcnn=False).detect_emotions(image))
"""
COPIED = ("expression", "lab", "tools", "checkpoints")
HEADS = ("Fresh environment", "Packages", "MB", "First answer or page after", "Processor's seconds",
         "Later ones", "Memory, MB", "Others' load")  # fmt: skip
PATIENCE = 600  # seconds for the page


def copied(folder: Path) -> Path:
    """What an installation needs of this repository, without what stands around it here."""
    target = folder / "repository"
    for name in COPIED:
        ignored = shutil.ignore_patterns("__pycache__", "*.pyi", ".expression_cache")
        shutil.copytree(harness.ROOT / name, target / name, ignore=ignored)
    for path in harness.ROOT.iterdir():
        if path.suffix in (".py", ".toml", ".txt", ".md") or path.name in ("Makefile", "LICENSE"):
            shutil.copy(path, target)
    return target


def megabytes(folder: Path) -> float:
    """The bytes of all files in a folder, links not followed, in millions."""
    found = (Path(top) / name for top, _, names in os.walk(folder) for name in names)
    return sum(path.lstat().st_size for path in found) / 1e6


def packages(python: Path) -> int:
    """How many packages are installed, without pip and setuptools."""
    listed = run([str(python), "-m", "pip", "list", "--format=freeze"]).stdout.splitlines()
    return len([line for line in listed if line.split("==")[0] not in ("pip", "setuptools")])


def run(words: Sequence[str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A program without pip's cache; raises OSError with its last lines when it fails."""
    environment = os.environ | {"PIP_NO_CACHE_DIR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(words)} failed: {done.stderr[-1500:]}")
    return done


def seconds(words: Sequence[str], cwd: Path | None = None) -> float:
    start = time.perf_counter()
    run(words, cwd)
    return time.perf_counter() - start


def processor_seconds() -> float:
    """What the programs that this one started and that have ended took of the processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def peak_memory(words: Sequence[str], cwd: Path) -> float:
    """The most memory that a program holds, in MB, as the operating system counts it."""
    program = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    printed = run([sys.executable, "-c", program, *words], cwd).stdout
    return int(printed) / (1e6 if sys.platform == "darwin" else 1e3)


def wanted(
    kind: str, python: Path, folder: Path, before: Path | None
) -> tuple[list[str], list[str], Path]:
    """What pip installs, the command that names a photo then, and the folder where both run."""
    repository = copied(folder)
    photo = str(repository / "expression" / "app" / "example_pictures" / "portrait.jpg")
    if kind == "fer":
        return list(FER), [str(python), "-c", FER_PROGRAM, photo], folder
    if kind == "before":
        if before is None:
            raise ValueError("which is the older checkout? Give --before FOLDER")
        return ["-r", "requirements.txt"], [str(python), "predict.py", photo], before.resolve()
    what = "." if kind == "answer" else f".[{kind}]"
    return [what], [str(python.parent / "expression"), photo], repository


def measure_pip(kind: str, folder: Path, checkout: Path | None) -> dict[str, Any]:
    """A new environment, what pip installs into it, and one photo."""
    environment = folder / "environment"
    python = environment / "bin" / "python"
    what, command, where = wanted(kind, python, folder, checkout)
    before, start = processor_seconds(), time.perf_counter()
    run([sys._base_executable, "-m", "venv", str(environment)])  # type: ignore[attr-defined]
    empty, made = megabytes(environment), time.perf_counter() - start
    installed = made + seconds([str(python), "-m", "pip", "install", *what], where)
    size = megabytes(environment) - empty
    first = installed + seconds(command, where)
    used = processor_seconds() - before
    later = [seconds(command, where) for _ in range(5)]
    return {
        "kind": kind, "packages": packages(python), "megabytes": size,
        "environment_megabytes": empty + size, "first_seconds": first, "processor_seconds": used,
        "later_seconds": later, "memory_megabytes": peak_memory(command, where),
    }  # fmt: skip


def measure_demo(folder: Path) -> dict[str, Any]:
    """`make demo`, from nothing until the page is served; then the same again."""
    repository = copied(folder)
    environment = folder / "environment"
    run([sys._base_executable, "-m", "venv", str(folder / "empty")])  # type: ignore[attr-defined]
    empty = megabytes(folder / "empty")
    before = processor_seconds()
    first = page_after(repository, environment)
    used = processor_seconds() - before
    size = megabytes(environment) - empty
    later = [page_after(repository, environment) for _ in range(3)]
    return {
        "kind": "demo", "packages": packages(environment / "bin" / "python"), "megabytes": size,
        "environment_megabytes": empty + size, "first_seconds": first, "processor_seconds": used,
        "later_seconds": later,
    }  # fmt: skip


def page_after(repository: Path, environment: Path) -> float:
    """Seconds until `make demo` serves its page; it is stopped then."""
    port = harness.free_port()
    words = ["make", "demo", f"VENV={environment}", f"PORT={port}"]
    words += [f"PYTHON={sys._base_executable}"]  # type: ignore[attr-defined]
    start = time.perf_counter()
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    with open(environment.parent / "said.txt", "ab") as said, subprocess.Popen(
        words, cwd=repository, env=outside | {"PIP_NO_CACHE_DIR": "1"}, stdout=said, stderr=said,
        start_new_session=True,
    ) as demo:  # fmt: skip
        try:
            while not answers(f"http://127.0.0.1:{port}/"):
                if demo.poll() is not None or time.perf_counter() - start > PATIENCE:
                    text = (environment.parent / "said.txt").read_text(errors="replace")
                    raise OSError(f"the demo did not start: {text[-1500:]}")
                time.sleep(0.1)
            return time.perf_counter() - start
        finally:
            with suppress(ProcessLookupError):
                os.killpg(demo.pid, signal.SIGTERM)


def answers(address: str) -> bool:
    """Whether a page is served there; a proxy for the outside is not asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with suppress(OSError):
        return opener.open(address, timeout=20).status == 200
    return False


def table(told: dict[str, Any]) -> str:
    """A row a kind of installation."""
    rows = []
    for row in told["rows"]:
        later = harness.Timing.of(row["later_seconds"])
        memory = row.get("memory_megabytes")
        rows.append((
            KINDS[row["kind"]], str(row["packages"]), f"{row['megabytes']:.0f}",
            f"{row['first_seconds']:.0f} s", f"{row['processor_seconds']:.0f}",
            f"{later.median:.2f} s ({later.min:.2f}–{later.max:.2f})",
            "–" if memory is None else f"{memory:.0f}", f"{row['load_before']:.1f}",
        ))  # fmt: skip
    return harness.markdown_table(HEADS, rows)


@harness.exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.install", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("kinds", nargs="+", choices=KINDS)
    made.add_argument("--before", type=Path, metavar="FOLDER", help="the older checkout")
    made.add_argument("--out", type=Path, default=harness.HERE / "install.json", metavar="FILE")
    args = made.parse_args(arguments)
    told = harness.record("install", arguments, torch.device("cpu"), ["onnxruntime", "gradio"])
    earlier = harness.read_json(args.out) or {"rows": []}
    told["rows"] = [row for row in earlier["rows"] if row["kind"] not in args.kinds]
    for kind in args.kinds:
        load = os.getloadavg()[0]
        with tempfile.TemporaryDirectory() as folder:
            at = Path(folder)
            row = measure_demo(at) if kind == "demo" else measure_pip(kind, at, args.before)
        told["rows"].append({**row, "load_before": load, "date": told["date"]})
        harness.write_json(args.out, told)
    print(table(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
