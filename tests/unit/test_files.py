"""Names and temporary files: nobody's file name speaks for the program, and nothing piles up."""

import os
import subprocess
import sys
import time
import unicodedata

import pytest

from expression.files import atomic_write, shown, shown_lines, whole_files


@pytest.mark.parametrize(
    "letter", "\n\r\t\x1b\x07\x9b\u2028\u2029\u202e\u2066\u200f\u061c\u200b\ufeff"
)
def test_a_name_changes_nothing_around_it(letter):
    # A line break forges a line of the output, an escape code the terminal, and U+202E shows
    # "gpj.exe" as "exe.jpg".
    told = shown(f"photo{letter}gpj.exe")
    assert letter not in told and told.startswith("photo\\") and told.endswith("gpj.exe")
    assert letter == "\n" or letter not in shown_lines(f"error:\n{letter}")


def test_every_mark_of_unicode_is_shown():
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    kinds = {unicodedata.category(c) for c in set(shown(every)) - set("\u200c\u200d")}
    assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    "name", ["café 漢字.jpg", "می\u200cخواهم.png", "👨\u200d👩\u200d👧.png", "שלום.jpg"]
)
def test_names_of_all_languages_stay_readable(name):
    assert shown(name) == shown_lines(name) == name


def test_line_breaks_of_a_message_stay():
    assert shown_lines("two\nlines\x1b[2J") == "two\nlines\\x1b[2J"


def test_what_a_killed_process_left_is_deleted_the_next_time(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    hour_ago, lives = time.time() - 3600, os.getppid()
    names = {
        f".table.{ended.pid}.tmp.csv": hour_ago,  # the one to go
        f".table.{ended.pid}0000000000000000000000.tmp.csv": time.time(),  # just written
        f".other.{ended.pid}.tmp.csv": hour_ago,  # of another file
        f".table.{ended.pid}.tmp.json": hour_ago,
        ".table.old.tmp.csv": hour_ago,  # not ours
        f".table.{lives}.tmp.csv": hour_ago,  # its process lives
    }
    for name, when in names.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (when, when))
    with atomic_write(tmp_path / "table.csv") as file:
        file.write(b"whole")
    left = {path.name for path in tmp_path.iterdir()} - {f".table.{lives}.tmp.csv"}
    assert left == {"table.csv", *list(names)[1:5]}
    assert os.name == "nt" or (tmp_path / f".table.{lives}.tmp.csv").exists()


def test_a_file_that_is_being_written_is_not_among_the_whole_ones(tmp_path):
    (tmp_path / "b.json").touch()
    with atomic_write(tmp_path / "a.json"):
        assert len(list(tmp_path.iterdir())) == 2
        assert [path.name for path in whole_files(tmp_path, "*.json")] == ["b.json"]
    assert [path.name for path in whole_files(tmp_path, "*.json")] == ["a.json", "b.json"]
    with atomic_write(tmp_path / ".hidden.json"):  # no second dot
        assert (tmp_path / f".hidden.{os.getpid()}.tmp.json").exists()
