"""Files that are kept for the next time, and checked before they are used.

Why: what an export or a teacher gives is kept under a name that says what it was made from. A file
that a full disk or a crash spoilt has that name, too: a network trained on it, or answering from
it, is wrong without a word. So each has its SHA-256 in a small file beside it. (`hf_collate`, which
stands alone, writes it into the file itself.)
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expression.files import atomic_path, atomic_write

__all__ = ["is_whole", "keep_file", "mark_whole"]


@contextmanager
def keep_file(path: Path) -> Iterator[Path]:
    """As `expression.files.atomic_path`; what was written is marked as whole."""
    with atomic_path(path) as part:
        yield part
    mark_whole(path)


def mark_whole(path: Path) -> None:
    """Write the digest of a file beside it."""
    with atomic_write(beside(path)) as file:
        file.write(f"{digest(path)}\n".encode())


def is_whole(path: Path) -> bool:
    """Whether a kept file is the one that was written; False where it is not there."""
    try:
        return beside(path).read_bytes().decode(errors="replace").strip() == digest(path)
    except OSError:
        return False


def beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def digest(path: Path) -> str:
    """Of name and content: a file under another's name is not whole."""
    found = hashlib.sha256(path.name.encode())
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()
