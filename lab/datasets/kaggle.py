"""Fetch a data set from Kaggle, and find in it what the readers of this package know.

Why: most copies of FER2013 and many collections of faces lie at Kaggle, each with folders of its
own inside. kagglehub downloads them into its cache, once; its errors are traces of several screens.
Here a failure is one sentence that says what helps, and what was fetched once is read without a
network.
Source: written for this project. Needs kagglehub, imported when used: `pip install kagglehub`.
"""

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["PREFIX", "KaggleUnavailable", "download", "find_readable"]

PREFIX = "kaggle:"
_HANDLE = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(/versions/(?P<version>\d+))?")
_TOKEN = (
    "make a token at https://www.kaggle.com/settings and put it into the environment variable "
    "KAGGLE_API_TOKEN or the file ~/.kaggle/access_token"
)


class KaggleUnavailable(ConnectionError):
    """The data set was neither fetched nor in the cache. The message says what helps."""


def download(handle: str, say: Callable[[str], Any] = print) -> tuple[Path, str]:
    """(folder, handle with its version) of "owner/name" or "owner/name/versions/3".

    kagglehub's cache is used where it has that version. Where Kaggle does not answer, the newest
    version in the cache serves, and `say` is called with a sentence on it.
    Raises ValueError for a handle that is written otherwise, KaggleUnavailable without kagglehub
    and where there is neither an answer nor a copy.
    """
    asked = _HANDLE.fullmatch(handle)
    if not asked:
        raise ValueError(
            f"{PREFIX}{handle}: write it as {PREFIX}owner/name, or with a version as "
            f"{PREFIX}owner/name/versions/3"
        )
    try:
        import kagglehub
        from kagglehub.config import get_cache_folder
    except ImportError as error:
        raise KaggleUnavailable(
            f"{PREFIX}{handle} needs the package kagglehub, which is not installed: "
            "pip install kagglehub"
        ) from error
    logging.getLogger("kagglehub").setLevel(logging.WARNING)  # its errors are told here, once
    try:
        folder = Path(kagglehub.dataset_download(handle))
    except Exception as error:  # requests', kagglehub's, and those of a broken archive
        reason = reason_of(error, asked["name"])
        copies = cached(Path(get_cache_folder()) / "datasets" / asked["name"])
        if asked["version"] or not copies:
            raise KaggleUnavailable(f"{PREFIX}{handle} cannot be fetched: {reason}") from error
        folder = copies[-1]
        say(f"{PREFIX}{handle}: version {folder.name} from the cache, because {reason}")
    return folder, versioned(folder, asked["name"])


def versioned(folder: Path, name: str) -> str:
    """The handle of what lies in a folder of kagglehub's cache, …/versions/3."""
    kept = folder.parent.name == "versions" and folder.name.isdigit()
    return f"{name}/versions/{folder.name}" if kept else name


def cached(place: Path) -> list[Path]:
    """Folders of a data set's whole versions in kagglehub's cache, the newest last."""
    marks = [mark.stem for mark in place.glob("*.complete") if mark.stem.isdigit()]
    folders = [place / "versions" / mark for mark in sorted(marks, key=int)]
    return [folder for folder in folders if folder.is_dir()]


def reason_of(error: Exception, name: str) -> str:
    """Why Kaggle gave nothing, in words, and what helps."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 404:
        return f"Kaggle has no data set {name} (404), or not that version; look at its address"
    if status in (401, 403):
        return (
            f"Kaggle refused ({status}): {name} is misspelt, private, or wants its terms accepted "
            f"on its page; or the account is not known here, then {_TOKEN}"
        )
    first = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
    if isinstance(error, ConnectionError | TimeoutError) or "requests" in type(error).__module__:
        return f"Kaggle was not reached ({first}); check the network"
    return f"{type(error).__name__}: {first}"


def find_readable(folder: Path, accepts: Callable[[Path], bool], forms: Sequence[str]) -> Path:
    """The folder itself, or the one file or folder in it, at most two levels down, that `accepts`
    takes.

    Raises ValueError where there is none, listing what is there and the `forms` that can be read,
    and where there are several on one level.
    """
    level = [folder]
    for _ in range(3):
        found = [path for path in level if accepts(path)]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(path.relative_to(folder).as_posix() for path in found)
            raise ValueError(f"{folder} holds several data sets: {names}; give the path of one")
        inside = [path for place in level if place.is_dir() for path in sorted(place.iterdir())]
        level = [path for path in inside if path.name[0] != "."]
    there = ", ".join(path.name for path in sorted(folder.iterdir())[:8]) or "nothing"
    raise ValueError(f"{folder} is in no known form: found {there}; can read {'; '.join(forms)}")
