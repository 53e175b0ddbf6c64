"""Requirements, metadata, constraints and versions: what is written in several places agrees."""

import re
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PIN = re.compile(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*")


def lines(name):
    """The lines of a requirements file that name a package."""
    texts = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [text for text in texts if text and not text.startswith(("#", "-r", "-c"))]


def ranges(texts):
    """{package: range}, without the project's own extras."""
    parsed = map(Requirement, texts)
    return {
        canonicalize_name(one.name): str(one.specifier)
        for one in parsed
        if one.name != PROJECT["name"]
    }


def test_pip_install_and_make_install_the_same_ranges():
    # A range raised in one place only: `make test` passes, and `pip install .` does not start.
    for name, extras in (
        ("requirements.txt", ("train", "demo", "server", "notebook")),
        ("requirements-dev.txt", ("dev",)),
    ):
        texts = [text for extra in extras for text in EXTRAS[extra]]
        if name == "requirements.txt":
            texts += PROJECT["dependencies"]
        assert ranges(texts) == ranges(lines(name)), name


def test_the_light_list_is_what_pip_installs_with_the_demo():
    # One name too few: `make demo` does not start. A range of its own: two lists of versions.
    texts = PROJECT["dependencies"] + EXTRAS["demo"]
    assert sorted(ranges(texts)) == sorted(map(canonicalize_name, lines("requirements-demo.txt")))
    text = (ROOT / "requirements-demo.txt").read_text(encoding="utf-8")
    assert re.search(r"^-c requirements\.txt$", text, re.M)
    assert ranges(lines("requirements-demo.txt")).keys() <= ranges(lines("requirements.txt")).keys()


def test_answering_is_light():
    heavy = {"torch", "torchvision", "facenet-pytorch", "matplotlib", "scikit-image", "datasets"}
    assert not ranges(PROJECT["dependencies"] + EXTRAS["demo"] + EXTRAS["webcam"]).keys() & heavy
    assert heavy <= ranges(EXTRAS["train"]).keys()


def test_constraints_are_exact_versions_within_the_ranges():
    # A pip freeze may hold a path or a build of one machine, which nobody else can install.
    pins = lines("constraints.txt")
    assert [pin for pin in pins if not PIN.fullmatch(pin)] == []
    exact = {canonicalize_name(name): version for name, version in (p.split("==") for p in pins)}
    for name, allowed in ranges(lines("requirements.txt") + lines("requirements-dev.txt")).items():
        assert name in exact, name
        assert Requirement(f"{name}{allowed}").specifier.contains(Version(exact[name])), name


def test_one_version_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.M).group(1) == PROJECT["version"]
    newest = re.search(r"^## \[(.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert PROJECT["version"] in newest.group(1)
