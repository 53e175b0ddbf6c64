"""Advice to install something is a command that works where the program runs."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from expression.extras import install_command
from tests.unit.test_packaging import EXTRAS, PROJECT, ROOT


def test_a_clone_is_installed_from_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert shlex.split(install_command("scale")) == ["pip", "install", ".[scale]"]
    monkeypatch.chdir(tmp_path)  # ".[scale]" would find no project here
    told = install_command("scale")
    assert ".[scale]" in told and "folder" in told and str(ROOT) not in told


def test_elsewhere_the_project_has_its_name(tmp_path: Path) -> None:
    named = f"{PROJECT['name']}[server]"
    assert shlex.split(install_command("server", tmp_path))[-1] == named
    # Some packages leave theirs beside all others in site-packages
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\n')
    assert shlex.split(install_command("server", tmp_path))[-1] == named


@pytest.mark.parametrize(("program", "package"), [("experiments", "torch"), ("demo", "gradio")])
def test_a_program_whose_packages_are_not_here_says_what_to_install(
    program: str, package: str
) -> None:
    hidden = f"import sys; sys.modules[{package!r}] = None; import {program}"
    ended = subprocess.run(
        [sys.executable, "-c", hidden], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert package in ended.stderr and "pip install" in ended.stderr


def test_no_place_writes_the_command_itself() -> None:
    # "expression-detect[scale]" in a clone, ".[server]" outside: each failed in the other place
    written = [
        f"{path.relative_to(ROOT)}: {extra}"
        for folder in ("expression", "lab")
        for path in (ROOT / folder).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        for extra in EXTRAS
        if f"[{extra}]" in line and "pip install" in line
    ]
    assert written == []
