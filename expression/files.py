"""Write a file so that its name always belongs to a whole one, and show a name safely.

Why: a full disk, a crash or Ctrl-C in the middle of writing must leave what stood there before. And
file names are bytes that anybody may have chosen: one that is no UTF-8 can be opened, but no text
file and no terminal takes it; one with an escape code clears the screen or retitles the window, one
with a line break forges a line of the output, and one with a bidirectional mark shows "gpj.exe" as
"exe.jpg".
"""

import errno
import os
import re
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = [
    "ABANDONED", "FULL", "atomic_path", "atomic_write", "is_alive", "shown", "shown_lines",
    "whole_files",
]  # fmt: skip

# Unicode's categories of what changes how a terminal or page shows other characters: control
# characters, format characters (bidirectional marks, zero width), line and paragraph separators
UNSEEN = ("Cc", "Cf", "Zl", "Zp")
JOINERS = "\u200c\u200d"  # of Persian, of Indian scripts and emoji: they only shape letters
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk, a quota, the largest file
ABANDONED = 600  # seconds since the last write to a temporary file whose process is gone


def shown(name: object) -> str:
    """A file's name for a person, a table or JSON: always encodable as UTF-8, always one line.

    Bytes that are no UTF-8, control characters and marks that cannot be seen become escapes:
    "caf\\xe9.png", "\\u202egpj.exe". Only for showing: open a file by its own name.
    """
    text = "".join(
        c.encode("unicode_escape").decode()
        if unicodedata.category(c) in UNSEEN and c not in JOINERS
        else c
        for c in str(name)
    )
    try:
        content = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair, which no file system gave
        content = text.encode("utf-8", "backslashreplace")
    return content.decode("utf-8", "backslashreplace")


def shown_lines(text: object) -> str:
    """A message that may hold somebody's file names, as `shown`; its line breaks stay."""
    return "\n".join(map(shown, str(text).split("\n")))


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary path beside `path`; a file written there replaces `path` on a clean exit.

    After an error the temporary file is deleted; one that a killed process left is deleted the
    next time. Its name begins with a dot (see `whole_files`) and keeps the suffix of `path`, for
    writers that choose a format by it. The OSError of a full disk names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    part = path.with_name(f"{hidden(path.stem)}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield part
        if part.exists():
            os.replace(part, path)
    except OSError as error:  # writing to an open file names none
        if error.filename is None and error.errno in FULL:
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: Path | str) -> Iterator[BinaryIO]:
    """A binary file that replaces `path` once it is whole and on the disk."""
    with atomic_path(path) as part, part.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def hidden(stem: str) -> str:
    """The name with a dot before it, which folders are listed without."""
    return stem if stem.startswith(".") else f".{stem}"


def whole_files(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder that fit a glob pattern, by name, without those whose name begins with
    a dot: what is being written, or a killed process left, is no file to read."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def sweep(path: Path) -> None:
    """Delete the temporary files of `path` whose process is gone.

    One may be another machine's that shares the folder: it stays until ten minutes after its last
    write.
    """
    pattern = re.compile(re.escape(hidden(path.stem)) + r"\.(\d+)\.tmp" + re.escape(path.suffix))
    with os.scandir(path.parent) as entries:
        for entry in entries:
            found = pattern.fullmatch(entry.name)
            try:
                if found and not is_alive(int(found[1])):
                    if time.time() - entry.stat().st_mtime > ABANDONED:
                        os.unlink(entry.path)
            except OSError:  # gone already, or open (Windows)
                continue


def is_alive(process: int) -> bool:
    """Whether a process of this machine runs; False on Windows, where open files stay anyway."""
    if os.name == "nt":  # its `os.kill` would end the process
        return False
    try:
        os.kill(process, 0)
    except PermissionError:  # somebody else's
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
