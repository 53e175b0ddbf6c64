"""Copy pictures into a folder for each expression.

Why: after a run over a thousand photos the next wish is to look at the happy ones. The originals
stay where they are; nothing that exists is replaced, and two pictures of one name are both kept.
"""

import glob
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from expression.face_prediction import FacePrediction
from expression.file_kinds import is_url
from expression.files import shown
from expression.output_files import OutputFiles, OutputGroup, inode, safe_stem

__all__ = ["NO_FACE", "check_sorting", "class_folder", "copy_picture", "reserve_copy"]

NO_FACE = "no face"


def class_folder(faces: Sequence[FacePrediction]) -> str:
    """The folder of a picture: what its largest face shows, "not sure", or "no face"."""
    if not faces:
        return NO_FACE
    largest = max(faces, key=lambda face: face.box[2] * face.box[3])
    return safe_stem(largest.label)


def check_sorting(folder: Path, inputs: Sequence[str], names: Iterable[str]) -> None:
    """Raises ValueError where the copies in `folder` would be inputs of this or the next run.

    `inputs` are as they were given: files, folders, patterns and addresses; `names` are the files
    that they lead to.
    """
    place = Path(os.path.realpath(folder))
    for given in inputs:
        if not is_url(given) and (reads_folder(given, place) or reads_by_pattern(given, folder)):
            raise ValueError(
                f"{shown(folder)} lies in {shown(given)}, so the copies would be read again as "
                "pictures; give a folder outside it"
            )
    number = inode(place)
    holding = {Path(os.path.abspath(name)).parent: name for name in names if not is_url(name)}
    for parent, name in holding.items():
        if number and any(inode(above) == number for above in (parent, *parent.parents)):
            raise ValueError(
                f"{shown(folder)} holds {shown(name)}, a picture to be sorted; give another folder"
            )


def reads_folder(given: str, place: Path) -> bool:
    """Whether an input is a folder that holds `place`, or is it. Hidden folders are not read."""
    if not os.path.isdir(given):
        return False
    number, above = inode(Path(given)), [place, *place.parents]
    for i, folder in enumerate(above):
        if inode(folder) == number:
            return not any(part.name.startswith(".") for part in above[:i])
    return False


def reads_by_pattern(given: str, folder: Path) -> bool:
    """Whether an input is a pattern that fits `folder`, a folder above it, or files below it."""
    if not glob.has_magic(given) or os.path.exists(given):
        return False
    pattern = os.path.normpath(os.path.join(glob.escape(os.getcwd()), given))
    wanted = Path(pattern).parts
    for place in (Path(os.path.abspath(folder)), Path(os.path.realpath(folder))):
        for parent in (place, *place.parents):
            same_depth = len(parent.parts) == len(wanted)
            if same_depth and all(map(fnmatchcase, parent.parts, wanted)):
                return True
        if "**" in wanted:  # any folders in between; `fnmatch` lets "*" stand for "/" too
            copy = str(place / "class" / wanted[-1])
            if fnmatchcase(copy, pattern.replace("**/", "*/")):
                return True
    return False


def reserve_copy(files: OutputFiles, folder: Path, name: str, label: str) -> OutputGroup:
    """A place for the copy of the picture `name` in folder/label, under its own name if free."""
    path = Path(name)
    return files.reserve(folder / label, path.stem, [path.suffix])


def copy_picture(source: Path, group: OutputGroup) -> None:
    """Write the copy, with the times of the original where the file system keeps them."""
    with group:
        (ending,) = group.endings
        shutil.copyfile(source, group.path(ending))
        with suppress(OSError):
            shutil.copystat(source, group.path(ending))
        group.keep(ending)
