"""Names for the files that a run writes, so that it never replaces a file of somebody else.

Why: results are often written beside the pictures they were made from, and `photo.jpg` with
boxes drawn must not replace `photo.jpg`. A name that is in use gets a number
(`photo-2.jpg`); files that belong together share it (`clip-2.mp4`, `clip-2.csv`,
`clip-2.png`). Each file is written in a temporary folder and gets its name when it is complete.

    files = OutputFiles(inputs=["photo.jpg"])
    with files.reserve(Path("."), "photo", [".jpg"]) as group:
        save_picture(image, group.path(".jpg"))
        group.keep(".jpg")
    print(group.written, files.notes())  # [photo-2.jpg] ["photo.jpg is an input; wrote …"]
"""

import io
import os
import re
import shutil
import tempfile
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, TextIO

from PIL import Image

from expression.files import ABANDONED, is_alive, shown

__all__ = [
    "OutputFiles", "OutputGroup", "check_folder", "inode", "safe_stem", "same_file",
    "save_picture",
]  # fmt: skip

MAX_NOTES = 10  # more renamed files than this are reported in one line
LONGEST_NAME = 255  # bytes, of a file's name on nearly all file systems
TEMPORARY = re.compile(r"\.expression-(\d+)-[a-z0-9_]{8}\.tmp")  # folders, with their process
Inode = tuple[int, int]  # device and file number


def inode(path: Path) -> Inode | None:
    """What identifies a file or folder whatever its name, links followed; None if missing."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # a ValueError: a zero byte in the name
        return None
    return found.st_dev, found.st_ino


def name_key(path: Path) -> tuple[Inode, str] | None:
    """The same for all spellings of one file name; None where its folder does not exist.

    Names that differ only in upper and lower case count as one, as they do on macOS and
    Windows: results can be copied there.
    """
    folder = inode(path.parent)
    # Letters with marks are spelt in two ways, and folding the case may change which of them it is.
    folded = unicodedata.normalize("NFD", path.name).casefold()
    return folder and (folder, unicodedata.normalize("NFC", folded))


def same_file(first: Path | str, second: Path | str) -> bool:
    """Whether two paths lead to one existing file, also by symbolic or hard links."""
    found = inode(Path(first))
    return found is not None and found == inode(Path(second))


def safe_stem(text: str) -> str:
    """A file or folder name of letters, digits, "-", "_", "." and spaces; the others become "_".

    It never leads to another folder, whoever wrote the text: a card's class may be called "../..".
    """
    name = "".join(c if c.isalnum() or c in "-_. " else "_" for c in text).strip(". ")
    return name or "_"


def shortened(stem: str, rest: str) -> str:
    """`stem` + `rest`, with as much of the stem as a file name may have."""
    room = LONGEST_NAME - len(os.fsencode(rest))
    while len(os.fsencode(stem)) > room:
        stem = stem[:-1]
    return stem + rest


def check_folder(folder: Path) -> Path:
    """The folder itself. Raises NotADirectoryError where it, or a folder above it, is a file."""
    for place in (folder, *folder.parents):
        if os.path.lexists(place):
            if not place.is_dir():
                raise NotADirectoryError(f"{shown(place)} is a file; give the name of a folder")
            break
    return folder


def sweep_folders(folder: Path) -> None:
    """Delete the temporary folders of runs that were killed.

    As `expression.files.sweep`: a process of another machine may share the folder, so they stay
    until ten minutes after the last change inside.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            found = TEMPORARY.fullmatch(entry.name)
            if not found or is_alive(int(found[1])) or not entry.is_dir(follow_symlinks=False):
                continue
            with suppress(OSError):  # gone already, or somebody else's
                inside = [file.stat().st_mtime for file in os.scandir(entry)]
                if time.time() - max(inside, default=entry.stat().st_mtime) > ABANDONED:
                    shutil.rmtree(entry)


def is_stream(path: Path) -> bool:
    """Whether writing to this path replaces nothing: a device, a pipe, standard output."""
    standard = str(path) in ("/dev/stdout", "/dev/stderr") or path.parent == Path("/dev/fd")
    return standard or (path.exists() and not path.is_file() and not path.is_dir())


def save_picture(image: Image.Image, path: Path, **options: Any) -> None:
    """Write a picture in the format of its ending; `options` are pillow's. Raises OSError.

    Pillow takes a write that the disk cut short for a whole one: where the disk was full, half a
    picture was kept without a word. So it encodes into memory.
    """
    content = io.BytesIO()
    image.save(content, Image.registered_extensions()[path.suffix.lower()], **options)
    path.write_bytes(content.getvalue())


def open_text(path: Path) -> TextIO:
    """Open for writing; what UTF-8 cannot hold, of a file name say, is written as an escape."""
    return path.open("w", newline="", encoding="utf-8", errors="backslashreplace")


def give_name(part: Path, path: Path, overwrite: bool) -> None:
    """Move a complete file to its name in one step.

    Raises FileExistsError where the name is in use, unless `overwrite`.
    """
    if overwrite:
        os.replace(part, path)
        return
    try:
        os.link(part, path)  # unlike a rename, it never replaces a file
    except FileExistsError:
        raise
    except (AttributeError, OSError):  # no hard links on this file system
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            os.replace(part, path)
        except BaseException:
            path.unlink()
            raise


def take_back(part: Path, path: Path) -> None:
    """Undo `give_name` without `overwrite`."""
    if part.exists():  # `path` is a second link to it
        path.unlink()
    else:
        os.replace(path, part)


class OutputFiles:
    """The output files of one run.

    A name is in use when it belongs to one of the `inputs`, to another output of this run,
    or to any file that exists; `overwrite` lifts only the last of the three.
    """

    def __init__(self, inputs: Iterable[Path | str] = (), overwrite: bool = False) -> None:
        paths = [Path(path) for path in inputs]
        self.overwrite = overwrite
        # A missing input keeps its name too: an output there would be read as the input.
        self._input_names = {name_key(path) for path in paths} - {None}
        self._input_inodes = {inode(path) for path in paths} - {None}
        self._reserved: set[tuple[Inode, str]] = set()
        self._numbers: dict[object, int] = {}  # the last one given to each folder and stem
        self._notes: list[str] = []
        self._swept: set[Path] = set()  # folders, each once a run
        self._lock = Lock()

    def reserve(self, folder: Path, stem: str, endings: Sequence[str]) -> "OutputGroup":
        """Names `folder/stem` + each ending, or with the first number free for all endings.

        The folder is made if it is missing. Nothing is written before the group is entered.
        """
        check_folder(folder).mkdir(parents=True, exist_ok=True)
        if folder not in self._swept:
            self._swept.add(folder)
            sweep_folders(folder)
        group = OutputGroup(self, folder, stem, endings)
        self._choose(group)
        return group

    @contextmanager
    def text(self, path: Path) -> Iterator[TextIO]:
        """A text file in UTF-8 that keeps the lines so far, whatever happens while it is written.

        Raises OSError. A device or pipe is written directly.
        """
        if path.is_dir():
            raise IsADirectoryError(f"{shown(path)} is a folder; give the name of a file in it")
        if is_stream(path):
            with open_text(path) as file:
                yield file
            return
        with self.reserve(path.parent, path.stem, [path.suffix]) as group:
            group.keep(path.suffix)
            with open_text(group.path(path.suffix)) as file:
                yield file

    def notes(self) -> list[str]:
        """A line for each name that was in use; a single line for more than MAX_NOTES."""
        if len(self._notes) <= MAX_NOTES:
            return list(self._notes)
        count = len(self._notes)
        return [f"{count} names were in use, for example: {self._notes[0]} (see --overwrite)"]

    def _in_use(self, path: Path) -> str:
        """Why this name cannot be had, "" if it can."""
        key = name_key(path)
        if key in self._input_names or inode(path) in self._input_inodes:
            return "is an input"
        if key in self._reserved:
            return "is another output of this run"
        if os.path.lexists(path) and not (self.overwrite and path.is_file()):
            return "exists"
        return ""

    def _choose(self, group: "OutputGroup") -> None:
        """Give a group the next number whose names are all free, and reserve these names."""
        key = name_key(group.folder / group.stem), group.endings
        with self._lock:
            while True:
                group.number += 1
                names = group.numbered()
                used = [(p, why) for p in names.values() if (why := self._in_use(p))]
                if not used:
                    break
                group.reason = group.reason or f"{shown(used[0][0])} {used[0][1]}"
                # Otherwise a thousand `frame.jpg` of different folders would try a million names.
                group.number = max(group.number, self._numbers.get(key, 0))
            group.names, self._numbers[key] = names, group.number
            self._reserved |= {name for path in names.values() if (name := name_key(path))}


class OutputGroup:
    """Files that belong together; a context manager, made by `OutputFiles.reserve`.

    Each is written at `path(ending)`, in a hidden temporary folder beside its place. At the
    end, also after an error, those that `keep` was called for get their names and are listed in
    `written`; the others are deleted.
    """

    def __init__(self, files: OutputFiles, folder: Path, stem: str, endings: Sequence[str]) -> None:
        self.files, self.folder, self.stem, self.endings = files, folder, stem, tuple(endings)
        self.names: dict[str, Path] = {}  # ending → final path
        self.reason = ""  # why the name without a number could not be had
        self.written: list[Path] = []
        self.number = 0  # of the names; 1 is not written out
        self._kept: set[str] = set()

    def numbered(self) -> dict[str, Path]:
        number = f"-{self.number}" if self.number > 1 else ""
        return {end: self.folder / shortened(self.stem, number + end) for end in self.endings}

    def path(self, ending: str) -> Path:
        """Where to write the file with this ending."""
        return self._temporary / shortened(self.stem, ending)

    def keep(self, *endings: str) -> None:
        """Mark these files as complete: where they exist, they will get their names."""
        self._kept |= set(endings)

    def __enter__(self) -> "OutputGroup":
        prefix = f".expression-{os.getpid()}-"
        name = tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=self.folder)
        self._temporary = Path(name)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            complete = [e for e in self.endings if e in self._kept and self.path(e).exists()]
            while not self._give_names(complete):
                self.files._choose(self)  # another program took a name since it was reserved
            self.written = [self.names[ending] for ending in complete]
            if self.reason and complete:
                names = ", ".join(shown(path.name) for path in self.written)
                self.files._notes.append(f"{self.reason}; wrote {names}")
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _give_names(self, endings: Sequence[str]) -> bool:
        """All files get their names, or none does and the answer is False."""
        done: list[str] = []
        try:
            for ending in endings:
                give_name(self.path(ending), self.names[ending], self.files.overwrite)
                done.append(ending)
        except FileExistsError:
            self.reason = self.reason or f"{shown(self.names[endings[len(done)]])} exists"
            for ending in done:
                take_back(self.path(ending), self.names[ending])
            return False
        return True
