"""Write a file so that its name always belongs to a whole one.

Why: a full disk, a crash or Ctrl-C in the middle of writing must leave what stood there before.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["atomic_path", "atomic_write", "shown"]


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


def shown(name: Path | str) -> str:
    """A file name as text that can be printed and stored: bytes that are no UTF-8 as escapes.

    `caf\\xe9.png` on the disk is "caf\\udce9.png" in Python, which no file in UTF-8 can hold.
    """
    return str(name).encode("utf-8", "backslashreplace").decode()
