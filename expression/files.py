"""Write a file so that its name always belongs to a whole one, and show a name safely.

Why: a full disk, a crash or Ctrl-C in the middle of writing must leave what stood there before. And
file names are bytes: one that is no UTF-8 can be opened, but no text file and no terminal takes it.
"""

import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["atomic_path", "atomic_write", "shown"]


def shown(name: object) -> str:
    """A file's name for a person, a table or JSON: always encodable as UTF-8, always one line.

    Bytes that are no UTF-8 and control characters become escapes: "caf\\xe9.png". Only for
    showing: open a file by its own name.
    """
    text = "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) == "Cc" else c
        for c in str(name)
    )
    try:
        content = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair, which no file system gave
        content = text.encode("utf-8", "backslashreplace")
    return content.decode("utf-8", "backslashreplace")


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary path beside `path`; a file written there replaces `path` on a clean exit.

    After an error the temporary file is deleted. It keeps the suffix of `path`, for writers that
    choose a format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield part
        if part.exists():
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: Path | str) -> Iterator[BinaryIO]:
    """A binary file that replaces `path` once it is whole and on the disk."""
    with atomic_path(path) as part, part.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
