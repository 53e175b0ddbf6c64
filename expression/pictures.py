"""Pictures from anywhere: a file, a folder, a web address, bytes, an OpenCV array → a PIL picture.

Why: people give sideways photos from phones, text files named .jpg, OpenCV frames in BGR, and
addresses inside the own network. Each is read here, once and safely, or refused in one sentence
that says what to do.
"""

import glob
import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from expression.download import fetch, is_url
from expression.preprocessing import flatten

__all__ = ["PICTURES", "VIDEOS", "Picture", "expand", "is_video", "open_picture"]

Picture = Image.Image | np.ndarray | Path | str | bytes
PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
VIDEOS = frozenset({".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v"})
MEGAPIXELS = 100
# Not EPS: pillow would start another program, Ghostscript, with a stranger's file
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def open_picture(
    picture: Picture, *, longest: int | None = None, allow_private: bool = False
) -> Image.Image:
    """A new picture, fully read and upright, of mode "L" or "RGB"; an animation's first frame.

    Arrays are uint8 as OpenCV gives them: (H, W) gray, (H, W, 3) BGR or (H, W, 4) BGRA.
    Strings that begin with http:// or https:// are fetched. With `longest`, a larger JPEG may be
    decoded at 1/2, 1/4 or 1/8 of its size, never smaller than `longest`; boxes then refer to the
    returned picture, and boxes times `info["reduced"]` (1, 2, 4 or 8) to the file. Raises
    FileNotFoundError; ValueError for a folder, a file that is no picture, a broken picture or one
    with more than 100 megapixels; and the errors of `fetch`.
    """
    if longest is not None and longest < 1:
        raise ValueError(f"longest is {longest}; it must be 1 pixel or more")
    if isinstance(picture, np.ndarray):
        return upright_copy(from_array(picture), "the array")
    if isinstance(picture, Image.Image):
        return upright_copy(picture, str(getattr(picture, "filename", "") or "the picture"))
    if isinstance(picture, bytes):
        return decode(io.BytesIO(picture), "the picture", longest)
    if is_url(picture):
        content = fetch(str(picture), allow_private=allow_private)
        return decode(io.BytesIO(content), str(picture).split("?")[0], longest)
    path = Path(picture)
    if os.path.isdir(path):  # unlike pathlib's, False for a name too long to exist
        raise ValueError(f"{path} is a folder; give its pictures, as in {path}/*.jpg")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path} is a device or a pipe; give a picture file")
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no picture at {path}; check the name and the folder"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{path} cannot be read ({reason}); check name and rights") from None
    with file:
        return decode(file, str(path), longest)


def from_array(array: np.ndarray) -> Image.Image:
    """OpenCV's uint8 (H, W), (H, W, 3) BGR or (H, W, 4) BGRA → PIL picture."""
    channels = array.shape[2] if array.ndim == 3 else None
    known = array.ndim == 2 or channels in (3, 4)
    if array.dtype != np.uint8 or not known or not array.size:
        raise ValueError(
            f"the array has shape {array.shape} and dtype {array.dtype}; give uint8 "
            "(H, W) gray, (H, W, 3) BGR or (H, W, 4) BGRA"
        )
    order: Any = {None: ..., 3: np.s_[..., ::-1], 4: np.s_[..., [2, 1, 0, 3]]}[channels]
    return Image.fromarray(np.ascontiguousarray(array[order]))


def decode(file: BinaryIO, name: str, longest: int | None) -> Image.Image:
    """The picture in an open file; errors call it `name`."""
    try:
        with warnings.catch_warnings():  # `check_size` has a lower limit than pillow's error
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file, formats=FORMATS)
    except (UnidentifiedImageError, KeyError):  # pillow before 11.3 does not know AVIF
        raise ValueError(why_not(file, name)) from None
    except Image.DecompressionBombError:
        raise ValueError(
            f"{name} has too many pixels to be opened safely; at most {MEGAPIXELS} megapixels "
            "are opened; scale it down"
        ) from None
    except Exception as error:  # decoders raise nearly any exception for a broken file
        raise ValueError(f"{name} is a broken picture ({error}); export it again") from None
    check_size(image.size, name)
    reduced = 1
    if longest is not None and image.format in ("JPEG", "MPO"):
        divisor = max(max(image.size) // longest, 1)
        smaller = max(image.width // divisor, 1), max(image.height // divisor, 1)
        before, drafted = image.width, image.draft(None, smaller)
        reduced = round(before / drafted[1][2]) if drafted else 1
    return upright_copy(image, name, reduced)


def why_not(file: BinaryIO, name: str) -> str:
    """The error message for a file that pillow does not know."""
    file.seek(0)
    head = file.read(2048)
    if not head:
        return f"{name} is an empty file; save or download it again"
    if head[4:8] == b"ftyp" and head[8:12] in HEIC:
        return f"{name} is a HEIC picture; HEIC is not supported; export as JPEG"
    if b"<svg" in head:
        return f"{name} is a drawing of lines (SVG), which has no pixels; export it as PNG"
    return f"{name} is not a picture that can be read; give JPEG, PNG or WebP"


def check_size(size: tuple[int, int], name: str) -> None:
    if min(size) < 1:
        raise ValueError(f"{name} is {size[0]} × {size[1]} pixels; give a picture with pixels")
    if (millions := size[0] * size[1] / 1e6) > MEGAPIXELS:
        raise ValueError(
            f"{name} has {max(round(millions), MEGAPIXELS + 1)} megapixels; "
            f"at most {MEGAPIXELS} are opened; scale it down"
        )


def upright_copy(image: Image.Image, name: str, reduced: int = 1) -> Image.Image:
    """A new picture: read to the end, turned upright, flattened, without the file's metadata."""
    check_size(image.size, name)
    try:
        image.load()
    except Exception as error:  # as in decode
        reason = str(error) or type(error).__name__
        raise ValueError(f"{name} is a broken picture ({reason}); export it again") from None
    try:
        upright = ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF data do not mean broken pixels
        upright = image.copy()
    flat = flatten(upright)
    # Whoever gets the picture would apply EXIF or transparency that is kept here a second time
    flat.info = {"reduced": reduced}
    return flat


# --- names ---


def is_video(name: str) -> bool:
    """Whether a file has the ending of a video; False for a web address."""
    return not is_url(name) and Path(name).suffix.lower() in VIDEOS


def inside(folder: str) -> list[str]:
    """Pictures and videos in and below a folder, sorted, without hidden files and folders."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files if not name.startswith(".")]
    return [str(path) for path in sorted(found) if path.suffix.lower() in PICTURES | VIDEOS]


def expand(arguments: Sequence[str]) -> list[str]:
    """Files, folders, globs and web addresses → files and web addresses, each once, in order.

    Folders and globs give only files with the ending of a picture or a video. A file given by name
    is kept, whatever its ending and even if it is missing: opening it then raises. Raises
    ValueError for a folder without pictures or a glob without matches.
    """
    names: dict[str, str] = {}  # a file given by two names counts once
    for argument in map(str, arguments):
        if is_url(argument):
            names.setdefault(argument, argument)
            continue
        if os.path.isdir(argument):
            found = inside(argument)
            if not found:
                raise ValueError(f"{argument} is a folder without pictures; give another")
        elif glob.has_magic(argument) and not os.path.exists(argument):
            found = []
            for match in sorted(glob.glob(argument, recursive=True)):
                known = Path(match).suffix.lower() in PICTURES | VIDEOS
                found += inside(match) if os.path.isdir(match) else [match] if known else []
            if not found:
                raise ValueError(f"{argument} fits no picture; check the folder and the ending")
        else:
            found = [argument]
        for name in found:
            names.setdefault(os.path.abspath(name), name)
    return list(names.values())
