"""The weights in the repository are those that were measured, byte for byte."""

import subprocess

import pytest

from tools.weights import LIST, ROOT, committed, faults, listed


def test_the_weights_are_those_of_the_list():
    assert faults() == [], "python -m tools.weights --write, if they were exported again"


def test_the_list_names_all_weights_and_nothing_else():
    try:
        known = committed()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git here, or no clone")
    assert list(listed()) == known, "python -m tools.weights --write"
    assert {"checkpoints/expression.onnx", "expression/weights/faces.onnx"} <= set(known)


def test_a_file_with_other_bytes_or_without_any_is_named(tmp_path):
    names = list(listed())
    (tmp_path / LIST).write_bytes((ROOT / LIST).read_bytes())
    for name in names[2:]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    changed = bytearray((ROOT / names[0]).read_bytes())
    changed[-1] ^= 1
    (tmp_path / names[0]).write_bytes(changed)
    told = faults(tmp_path)
    assert [sentence.split()[0] for sentence in told] == names[:2]
    assert "missing" in told[1] and "missing" not in told[0]
