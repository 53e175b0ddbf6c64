"""How to install what a part of the project needs beside the rest: an extra of pyproject.toml."""

import sys
from pathlib import Path
from typing import NoReturn

__all__ = ["end_without", "install_command"]

PROJECT = "expression-detect"
ROOT = Path(__file__).resolve().parents[1]  # of a clone; of an installed package the environment's


def install_command(extra: str, root: Path = ROOT) -> str:
    """The command that installs an extra where this program runs, for advice.

    In a clone pip is given the clone: nobody has to have installed the project there. Elsewhere it
    is installed, so pip knows it by its name, and no file of it lies in the current folder. The
    clone's place is not named: the demo shows this to visitors.
    """
    project = root / "pyproject.toml"
    if not (project.is_file() and f'name = "{PROJECT}"' in project.read_text(encoding="utf-8")):
        return f'pip install "{PROJECT}[{extra}]"'
    there = "" if Path.cwd() == root else " in the project's folder"
    return f'pip install ".[{extra}]"{there}'


def end_without(missing: ModuleNotFoundError, what: str, extra: str) -> NoReturn:
    """End a program whose packages are not all here, in one sentence, with exit code 2."""
    print(f"error: {missing}; {what} more packages: {install_command(extra)}", file=sys.stderr)
    raise SystemExit(2)
