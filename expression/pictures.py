"""Pictures from anywhere: a file, a web address, bytes, an array, a tensor → a PIL picture.

Why: people give sideways photos from phones, text files named .jpg, OpenCV frames in BGR, photos
that do not fit into memory, and addresses inside the own network. Each is read here, once and
safely, or refused in one sentence that says what to do.
"""

import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from expression.file_kinds import check_address, is_url, special_kind
from expression.files import shown
from expression.picture_arrays import (
    from_array,
    from_tensor,
    is_tensor,
    split_array,
    split_tensor,
)
from expression.picture_decoding import MAX_BYTES, decode, upright_copy

__all__ = ["LONGEST", "Picture", "Pictures", "as_picture", "as_pictures", "open_picture", "reduced"]

# A file, an address, a file's content, an opened file, an array or a tensor (which has no type
# here, because nothing that answers needs torch)
Picture = Image.Image | np.ndarray | os.PathLike | str | bytes | bytearray | memoryview | Any
Pictures = Iterable[Picture] | Any  # several; an array (N, …) or a tensor (N, …) too
LONGEST = 2048  # pixels: a larger JPEG may be decoded at a half, a quarter or an eighth
# What a picture's metadata may hold that changes how it looks
CARRIED = {"transparency", "exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
WANTED = (
    "give a path, a web address, a PIL picture, an opened file, a file's bytes, or OpenCV's array "
    "(H, W, 3)"
)


def open_picture(
    picture: Picture, *, longest: int | None = None, allow_private: bool = False
) -> Image.Image:
    """A new picture, fully read and upright, of mode "L" or "RGB"; an animation's first frame.

    Arrays are as OpenCV gives them: uint8 (H, W) gray, (H, W, 3) BGR or (H, W, 4) BGRA, or 16 bit.
    Tensors are as torch means them: (3, H, W) RGB, uint8 or floats in [0, 1]. Strings that begin
    with http:// or https:// are fetched.

    With `longest`, a larger JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, never smaller than
    `longest`; a file of more than 30 megapixels is made smaller in any case. Boxes then refer to
    the returned picture, and boxes times `info["reduced"]` (1, 2, 4, …) to the file. Raises
    FileNotFoundError; ValueError for a folder, a file that is no picture, a broken picture, one
    that takes too much memory to decode, or what is no picture at all; and the errors of `fetch`.
    """
    if longest is not None and longest < 1:
        raise ValueError(f"longest is {longest}; it must be 1 pixel or more")
    if isinstance(picture, np.ndarray):
        return upright_copy(from_array(picture), "the array")
    if is_tensor(picture):
        return upright_copy(from_tensor(picture), "the tensor")
    if isinstance(picture, Image.Image):
        name = getattr(picture, "filename", "") or "the picture"
        return upright_copy(picture, shown(name))
    if isinstance(picture, bytes | bytearray | memoryview):
        return decode(io.BytesIO(picture), "the picture", longest)
    if hasattr(picture, "read"):
        return decode(seekable(picture), "the opened file", longest)
    if isinstance(picture, str) and is_url(picture):
        from expression.download import fetch  # its ssl takes 20 ms: not for files

        content = fetch(picture, allow_private=allow_private)
        return decode(io.BytesIO(content), picture.split("?")[0], longest)
    if isinstance(picture, str | os.PathLike):
        return open_file(picture, longest)
    raise ValueError(no_picture(picture))


def open_file(given: str | os.PathLike, longest: int | None) -> Image.Image:
    check_address(os.fsdecode(given))
    path = Path(os.fsdecode(given))
    name = shown(path)
    if os.path.isdir(path):  # unlike pathlib's, False for a name too long to exist
        raise ValueError(f"{name} is a folder; give its pictures, as in {name}/*.jpg")
    if os.path.exists(path) and (kind := special_kind(path)):
        raise ValueError(f"{name} is a {kind}; give a picture file")
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no picture at {name}; check the name and the folder"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{name} cannot be read ({reason}); check name and rights") from None
    with file:
        return decode(file, name, longest)


def seekable(file: Any) -> BinaryIO:
    """An opened file that can be read from its beginning; one that cannot is read to its end."""
    try:
        if file.seekable():
            file.seek(0)
            if isinstance(file.read(0), bytes):
                return file
        content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError, AttributeError, TypeError) as error:  # closed, or only writable
        raise ValueError(
            f'the opened file cannot be read ({error}); open it with mode "rb"'
        ) from None
    if not isinstance(content, bytes):
        raise ValueError('the file was opened as text; open it with mode "rb"')
    if len(content) > MAX_BYTES:
        raise ValueError(
            f"the opened file is larger than {MAX_BYTES / 1e6:.0f} MB; save it and give its path"
        )
    return io.BytesIO(content)


def no_picture(given: object) -> str:
    """The error message for what is no picture: what was given, and what is wanted."""
    if given is None:
        return (
            "None was given instead of a picture (cv2.imread answers None where it cannot read a "
            f"file); {WANTED}"
        )
    kind = type(given).__name__
    if isinstance(given, list | tuple):
        return (
            f"a {kind} of {len(given)} was given instead of one picture; give one of them, or use "
            "a method for several, such as find_batch"
        )
    return f"{kind} was given instead of a picture; {WANTED}"


def as_picture(picture: Picture) -> Image.Image:
    """Whatever `open_picture` opens, as a picture of mode "L" or "RGB" to look at, not to change.

    An upright PIL picture of such a mode is returned as it is, without a copy. Boxes in it times
    `info.get("reduced", 1)` are in pixels of what was given. Raises as `open_picture`.
    """
    if (
        isinstance(picture, Image.Image)
        and picture.mode in ("L", "RGB")
        and not picture.info.keys() & CARRIED
        and picture.info.get("reduced", 1) == 1
        and type(picture) is Image.Image  # no file that is still to be read
        and min(picture.size) > 0
    ):
        return picture
    return open_picture(picture, longest=LONGEST)


def reduced(image: Image.Image) -> int:
    """By how much an opened picture is smaller than what was given: see `as_picture`."""
    return int(image.info.get("reduced", 1))


def as_pictures(pictures: Pictures) -> list[Image.Image]:
    """Several pictures, each as `as_picture` returns it: a list, or an array or a tensor (N, …).

    Raises ValueError for one picture or none, and names the place of one that cannot be opened.
    """
    if is_tensor(pictures):
        several: list[Any] = split_tensor(pictures)
    elif isinstance(pictures, np.ndarray):
        several = split_array(pictures)
    elif (
        pictures is None
        or isinstance(pictures, str | bytes | bytearray | memoryview | os.PathLike | Mapping)
        or isinstance(pictures, Image.Image)
        or hasattr(pictures, "read")
        or not isinstance(pictures, Iterable)
    ):
        given = "None" if pictures is None else f"one {type(pictures).__name__}"
        raise ValueError(f"{given} was given instead of several pictures; give a list of them")
    else:
        several = list(pictures)
    opened = []
    for number, picture in enumerate(several, 1):
        try:
            opened.append(as_picture(picture))
        except ValueError as error:
            raise ValueError(f"picture {number} of {len(several)}: {error}") from None
    return opened
