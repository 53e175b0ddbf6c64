"""Files on this machine and in object stores, by one set of functions (fsspec).

Why: a table of names may come from a stranger. fsspec would also open addresses inside the own
network, archives inside archives, and other machines by their passwords; here only files and
object stores are opened, and web addresses go the way of `expression.download`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from expression.file_kinds import is_url
from expression.files import shown

__all__ = [
    "STORES", "absolute", "first_words", "is_store", "open_file", "store_errors", "store_of",
]  # fmt: skip

# Amazon, Google, Microsoft, Oracle, Hugging Face; a file system that is mounted; for tests
STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "hf", "file", "memory")


def is_store(name: str) -> bool:
    """Whether this is an address such as s3://bucket/key. Raises ValueError for other addresses."""
    scheme, mark, _ = name.partition("://")
    if not mark or is_url(name):
        return False
    if scheme not in STORES:
        raise ValueError(
            f"{shown(name)} is of no known store; give a path, a web address, or one that "
            f"begins with {', '.join(f'{store}://' for store in STORES[:-2])} or file://"
        )
    return True


def store_of(name: str) -> tuple[Any, str]:
    """(its file system, the path there). Raises ValueError, as `is_store`, and ImportError, one
    sentence, where the store needs a package that is not installed."""
    if not is_store(name):
        return LocalFileSystem(), os.path.abspath(name)
    try:
        fs, path = fsspec.core.url_to_fs(name)
    except ImportError as error:
        raise ImportError(f"{shown(name)} needs another package: {error}") from None
    return fs, path


def absolute(name: str) -> str:
    """A file's one name: its absolute path, or its address."""
    if is_url(name):
        return name
    fs, path = store_of(name)
    return path if isinstance(fs, LocalFileSystem) else str(fs.unstrip_protocol(path))


@contextmanager
def open_file(name: str) -> Iterator[BinaryIO]:
    """A file to read. Raises OSError, or as `store_of`."""
    if not is_store(name):
        with Path(name).open("rb") as file:
            yield file
        return
    fs, path = store_of(name)
    with fs.open(path, "rb") as file:
        yield file


@contextmanager
def store_errors(name: str) -> Iterator[None]:
    """Each store has errors of its own; here they become an OSError of one sentence."""
    try:
        yield
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise OSError(f"{shown(name)} does not answer ({first_words(error)})") from None


def first_words(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
