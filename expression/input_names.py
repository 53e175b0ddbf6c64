"""Arguments of a command → the pictures and videos they mean, and what was passed over.

Why: a folder holds more than pictures, and whoever gives one must learn what was left out.
"""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from expression.file_kinds import (
    HEIC,
    HEIC_ADVICE,
    SYSTEM_NAMES,
    check_address,
    is_picture_name,
    is_url,
    is_video_name,
    special_kind,
)
from expression.files import shown

__all__ = ["Inputs", "expand", "files_below", "is_video", "passed_over_words"]

LINKED, LOCKED = "linked folder", "folder without permission"
NAMED = 6  # kinds of passed-over files that one line names


@dataclass
class Inputs:
    """Files and web addresses, each once and in order, and how many files were passed over.

    `passed_over` counts, by ending (".txt", "" without one), what folders and patterns held that
    is neither picture nor video, folders that were not entered, and pipes, sockets, devices and
    broken links.
    """

    names: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


def is_video(name: str) -> bool:
    """Whether a file has the ending of a video; False for a web address."""
    return not is_url(name) and is_video_name(name)


def passed_over_words(passed_over: Counter[str]) -> str:
    """One line for a person, such as "3 files were passed over (2 .txt, 1 .heic)"; "" for none."""
    if not passed_over:
        return ""
    total = sum(passed_over.values())
    told = [
        f"{count} {shown(kind) or 'without an ending'}" for kind, count in passed_over.most_common()
    ]
    more = [f"{len(told) - NAMED} other kinds"] if len(told) > NAMED else []
    were = "file was" if total == 1 else "files were"
    advice = f"; {HEIC_ADVICE}" if HEIC & set(passed_over) else ""
    return f"{total} {were} passed over ({', '.join(told[:NAMED] + more)}){advice}"


@dataclass
class Found:
    """What lies in folders: pictures and videos, and {path: what it is} of what was passed over."""

    names: list[str] = field(default_factory=list)
    passed_over: dict[str, str] = field(default_factory=dict)

    def sort_in(self, path: str, kind: str | None) -> None:
        """A file: taken where `kind` is None, or passed over as `kind`."""
        if kind is None:
            self.names.append(path)
        else:
            self.passed_over[os.path.abspath(path)] = kind

    def enter(self, folder: str) -> None:
        """Pictures and videos in and below a folder, sorted, without hidden files and folders."""
        for path, kind in sorted((Path(path), kind) for path, kind in files_below(folder)):
            self.sort_in(str(path), kind)  # without "./" before it

    def match(self, pattern: str) -> None:
        """Pictures and videos that fit a pattern, or lie in and below a folder that does."""
        for path in sorted(glob.glob(pattern, recursive=True)):
            if os.path.isdir(path):
                self.enter(path)
            elif os.path.basename(path).lower() not in SYSTEM_NAMES:
                self.sort_in(path, kind_passed_over(path))


def kind_passed_over(path: str) -> str | None:
    """None for a picture or a video; for another file its ending, or what it is instead."""
    if kind := special_kind(path):
        return kind
    name = os.path.basename(path)
    if is_picture_name(name) or is_video_name(name):
        return None
    return Path(name).suffix.lower()


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Links followed; False for a link that leads in a circle."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def files_below(folder: str) -> Iterator[tuple[str, str | None]]:
    """Every file in and below a folder, with its `kind_passed_over`, as the file system lists them.

    Hidden files and folders and those of the system are left out; folders that are links, or may
    not be read, are passed over. Only the names of open folders are held, so that a folder of ten
    million files needs no memory.
    """
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            with os.scandir(place) as listed:
                for entry in listed:
                    if entry.name[0] == "." or entry.name.lower() in SYSTEM_NAMES:
                        continue
                    if not is_folder(entry):
                        yield entry.path, kind_passed_over(entry.path)
                    elif entry.is_symlink():
                        yield entry.path, LINKED
                    else:
                        waiting.append(entry.path)
        except OSError:
            yield place, LOCKED


def expand(arguments: Sequence[str]) -> Inputs:
    """Files, folders, globs and web addresses → files and web addresses, each once, in order.

    Folders and globs give only files with the ending of a picture or a video, and count the others.
    A file given by name is kept, whatever its ending and even if it is missing: opening it then
    raises. Raises ValueError for a folder without pictures, a glob without matches, and as
    `check_address`.
    """
    names: dict[str, str] = {}  # a file given by two names counts once
    passed_over: dict[str, str] = {}
    for argument in map(str, arguments):
        if is_url(argument):
            names.setdefault(argument, argument)
            continue
        check_address(argument)
        found = Found()
        if os.path.isdir(argument):
            found.enter(argument)
            without = "is a folder without pictures; give another"
        elif glob.has_magic(argument) and not os.path.exists(argument):
            found.match(argument)
            without = "fits no picture; check the folder and the ending"
        else:
            found.names, without = [argument], ""
        if not found.names:
            words = passed_over_words(Counter(found.passed_over.values()))
            raise ValueError(f"{shown(argument)} {without}{words and f' ({words})'}")
        passed_over |= found.passed_over
        for name in found.names:
            names.setdefault(os.path.abspath(name), name)
    return Inputs(list(names.values()), Counter(passed_over.values()))
