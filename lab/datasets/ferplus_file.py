"""FER+'s file of votes by its web address: fetched once, then read from the user's cache.

Why: the votes are a file in Microsoft's repository. Whoever gives its address to `--votes` need not
download it by hand, and a second run needs no network. What is fetched is bounded in time and size,
is kept only if it looks like the file that was asked for, and its SHA-256 is told, so that two
machines can be compared.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from expression.download import fetch
from expression.file_kinds import is_url
from expression.files import atomic_write

__all__ = ["FERPLUS_ADDRESS", "votes_file"]

FERPLUS_ADDRESS = "https://raw.githubusercontent.com/microsoft/FERPlus/master/fer2013new.csv"
MAX_BYTES = 20_000_000  # FER+'s file has 1.6 MB
TIMEOUT = 60.0  # seconds
KINDS = ("text/", "application/csv")


def cache_folder() -> Path:
    """Where fetched files are kept: below XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "expression"


def votes_file(votes: str | os.PathLike[str], say: Callable[[str], Any] = print) -> Path:
    """The path of a votes file; one that is given by its http(s) address is fetched at first.

    `say` is called with one sentence: where it lies, and its SHA-256. A path is returned as it is.
    Raises FileNotFoundError where the address cannot be fetched and no copy is kept, ValueError
    for what is no CSV of votes.
    """
    address = os.fspath(votes)
    if not is_url(address):
        return Path(address).expanduser()
    name = Path(urlsplit(address).path).name or "votes.csv"
    path = cache_folder() / hashlib.sha256(address.encode()).hexdigest()[:12] / name
    if path.is_file():
        say(f"votes: {name}, fetched earlier, SHA-256 {digest(path)} ({path})")
        return path
    try:  # the user who trains chose the address, so it may lead into their own network
        content = fetch(
            address, timeout=TIMEOUT, max_bytes=MAX_BYTES, allow_private=True, kinds=KINDS
        )
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"--votes: {error}. Or give the path of a copy; FER+'s file is {FERPLUS_ADDRESS}"
        ) from error
    first = content[:2000].splitlines()[0].decode(errors="replace") if content else "nothing"
    if "Usage" not in first or "Image name" not in first:
        raise ValueError(
            f"--votes: {address} begins with {first[:80]!r}, not with FER+'s columns Usage, "
            f"Image name, …; FER+'s file is {FERPLUS_ADDRESS}"
        )
    with atomic_write(path) as file:
        file.write(content)
    say(f"votes: {name}, fetched now, SHA-256 {digest(path)} ({path})")
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
