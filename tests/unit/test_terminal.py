"""Output that the terminal cannot show never ends a run.

Windows writes cp1252 into a redirected file, which knows neither "█" nor "→".
"""

import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from expression import terminal
from expression.files import shown
from expression.summary import bar
from expression.terminal import escape_unprintable
from tests.unit.test_house import HELPERS

ROOT = Path(terminal.__file__).resolve().parent.parent
CALLS = (
    "escape_unprintable()",
    "@harness.exit_code",  # calls it
    "from expression.cli import main",
    'stream.reconfigure(errors="backslashreplace")',
)


def programs() -> list[Path]:
    """Every file that can be run."""
    folders = ["expression", "lab", "benchmarks", "tools"]
    paths = [*ROOT.glob("*.py"), *(p for f in folders for p in (ROOT / f).rglob("*.py"))]
    return [p for p in sorted(paths) if '__name__ == "__main__"' in p.read_text(encoding="utf-8")]


def alone(path: Path) -> bool:
    # Each stands alone and can call nothing of ours: what they print is ASCII.
    return path.name in HELPERS or path.parent.name == "models"


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_programs_are_found():
    names = {name_of(path) for path in programs()}
    assert {"predict.py", "experiments.py", "demo.py", "benchmarks/loop.py"} < names


@pytest.mark.parametrize("path", [p for p in programs() if not alone(p)], ids=name_of)
def test_every_program_prints_whatever_the_terminal_lacks(path):
    if name_of(path) == "lab/metrics.py":  # travels alone; an example of its figures
        return
    text = path.read_text(encoding="utf-8")
    assert any(call in text for call in CALLS), f"{name_of(path)} calls none of {CALLS}"


@pytest.mark.parametrize("path", [p for p in programs() if alone(p)], ids=name_of)
def test_a_helper_prints_ascii(path):
    calls = [n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call)]
    prints = [text for text in map(ast.unparse, calls) if text.startswith("print(")]
    assert not [text for text in prints if not text.isascii()]


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii"])
def test_letters_that_are_missing_are_escaped(monkeypatch, encoding):
    streams = [io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    with pytest.raises(UnicodeEncodeError):
        print("漢字")
    terminal.escape_unprintable()
    print("漢字 happy")
    print("漢字", file=sys.stderr)
    for stream in streams:
        stream.flush()
    assert streams[0].buffer.getvalue().endswith(rb"\u6f22\u5b57 happy" + os.linesep.encode())
    assert rb"\u6f22" in streams[1].buffer.getvalue()


@pytest.mark.parametrize(("encoding", "block"), [("utf-8", "█"), ("cp437", "█"), ("cp1252", "#")])
def test_bars_are_drawn_with_what_the_terminal_has(monkeypatch, encoding, block):
    # Escaped, a bar would be 24 times \u2588
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    assert bar(0.5) == 12 * block and bar(0.0) == "" and bar(float("nan")) == ""


@pytest.mark.parametrize("terminal", [False, True])
def test_a_name_that_a_place_forgot_to_escape_gives_no_orders(monkeypatch, terminal):
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n")
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stdout", stream)
    terminal_codes = "\r\x1b[A\x1b[1;31mred\x1b[0m"  # a progress bar's, a help's
    terminal_shown = terminal_codes if terminal else terminal_codes.replace("\x1b", "\\x1b")
    for _ in range(2):  # calling it again changes nothing
        escape_unprintable()
    for name in ("\x1b[2J", "\x1b]0;title\x07", "\x9b2J", "\u202egpj", "a\tb\nc", "漢 é"):
        print(name)
    print(terminal_codes)
    stream.flush()
    told = stream.buffer.getvalue().decode()
    assert told == (
        "\\x1b[2J\n\\x1b]0;title\\x07\n\\x9b2J\n\\u202egpj\na\tb\nc\n漢 é\n" + terminal_shown + "\n"
    )


def test_other_kinds_of_streams_are_left_alone(monkeypatch):
    # pythonw has none, a notebook one of its own
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    terminal.escape_unprintable()


@pytest.mark.parametrize(
    "words",
    [["-m", "expression.cli", "--list"], ["tools/check_install.py", "--help"]],
    ids=lambda words: words[-2],
)
def test_programs_run_where_nothing_is_utf8(words):
    plain = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=os.environ | plain, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    assert done.stdout.isascii() and b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("photo.png", "photo.png"),
        ("漢.png", "漢.png"),
        (os.fsdecode(b"caf\xe9.png"), r"caf\xe9.png"),
    ],
)
def test_a_name_that_is_no_utf8_can_be_stored(name, text):
    assert shown(name) == shown(Path(name)) == text
    assert shown(name).encode()  # raises for the name itself
