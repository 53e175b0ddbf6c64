"""docs/dependencies.md names every package that is asked for, with its own licence and a reason."""

import json
import re
from importlib.metadata import PackageNotFoundError, metadata

import pytest
from packaging.utils import canonicalize_name

from tests.unit.test_packaging import EXTRAS, PROJECT, ROOT, lines, ranges

# Words of a licence's name by which two spellings of it are compared; "Apache 2.0" = "Apache-2.0"
FAMILIES = ("Apache", "MIT", "BSD", "MPL", "GPL", "PSF|Python Software Foundation|Matplotlib")


def table():
    """{package: (licence, reason)} of the page."""
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    names = [canonicalize_name(row[0].strip("`")) for row in rows]
    assert len(names) == len(set(names)), "named twice"
    return {name: (row[1], row[-1]) for name, row in zip(names, rows, strict=True)}


def asked_for():
    """Every package that the project asks for by name."""
    texts = PROJECT["dependencies"] + [text for extra in EXTRAS.values() for text in extra]
    found = ranges(texts + lines("requirements.txt") + lines("requirements-dev.txt")).keys()
    page = json.loads((ROOT / "web" / "package.json").read_text(encoding="utf-8"))
    return {*found, *map(canonicalize_name, page["dependencies"] | page["devDependencies"])}


def stated(name):
    """What an installed package says of its licence: SPDX, or the first line, or a classifier."""
    try:
        about = metadata(name)
    except PackageNotFoundError:
        pytest.skip("not installed, or of npm")
    own = about.get("License-Expression") or (about.get("License") or "").strip().split("\n")[0]
    listed = [text for text in about.get_all("Classifier") or () if text.startswith("License")]
    return " ".join([own, *listed])


def families(text):
    return {kind for kind in FAMILIES if re.search(rf"\b({kind})\b", text, re.IGNORECASE)}


def test_every_package_is_named_and_no_other():
    # A package that nobody knows the licence of, or one that was dropped long ago
    assert asked_for() - table().keys() == set()
    assert table().keys() - asked_for() == set()


@pytest.mark.parametrize("name", sorted(asked_for()))
def test_the_licence_is_what_the_package_states(name):
    licence, reason = table()[name]
    assert len(reason) > 8
    assert families(licence), "no known licence"
    assert families(stated(name)) <= families(licence), stated(name)
