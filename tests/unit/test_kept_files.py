"""What is kept for the next time is checked before it is used, and what kills leave is swept."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from expression.files import ABANDONED
from expression.kept_files import is_whole, keep_file
from expression.output_files import OutputFiles


def keep(path: Path, content: bytes = b"answers") -> Path:
    with keep_file(path) as part:
        part.write_bytes(content)
    return path


def test_a_kept_file_is_whole_until_a_byte_changes(tmp_path: Path) -> None:
    path = keep(tmp_path / "a.pt")
    assert is_whole(path) and path.read_bytes() == b"answers"
    path.write_bytes(b"answerz")  # of the right size
    assert not is_whole(path)
    assert is_whole(keep(path, b"new"))
    path.unlink()
    assert not is_whole(path)


@pytest.mark.parametrize("spoilt", [b"", b"0" * 64, b"\xff\xfe"])
def test_without_its_own_digest_it_is_not_whole(spoilt: bytes, tmp_path: Path) -> None:
    path = keep(tmp_path / "a.pt")
    (tmp_path / "a.pt.sha256").write_bytes(spoilt)
    assert not is_whole(path)
    (tmp_path / "a.pt.sha256").unlink()
    assert not is_whole(path)


def test_a_file_under_the_name_of_another_is_not_whole(tmp_path: Path) -> None:
    keep(tmp_path / "a.onnx")
    for end in ("", ".sha256"):
        os.replace(tmp_path / f"a.onnx{end}", tmp_path / f"b.onnx{end}")
    assert not is_whole(tmp_path / "b.onnx")


def test_an_error_keeps_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), keep_file(tmp_path / "a.pt") as part:
        part.write_bytes(b"half")
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_output_folders_of_killed_programs_are_swept_and_no_others(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    old = time.time() - ABANDONED - 5
    names = {
        f".expression-{ended.pid}-abcdefg1.tmp": old,  # the one to go
        f".expression-{ended.pid}-abcdefg2.tmp": time.time(),  # another machine's, perhaps
        f".expression-{os.getpid()}-abcdefg1.tmp": old,  # its program runs
        f"expression-{ended.pid}-abcdefg1.tmp": old,
    }
    for name, when in names.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "clip.mp4").write_bytes(b"half")
        os.utime(tmp_path / name / "clip.mp4", (when, when))
        os.utime(tmp_path / name, (old, old))  # a file that grows does not change it
    with OutputFiles().text(tmp_path / "table.csv") as file:
        file.write("whole")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"table.csv", *list(names)[1:]}
