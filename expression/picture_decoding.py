"""A picture's file → an upright picture of 8 bits, in bounded memory.

Why: a photo of 108 megapixels is 12 MB as a file and 430 MB when it is decoded; turning and
converting it need as much again. So what decoding takes is estimated before it begins. A JPEG is
decoded at a half, a quarter or an eighth where it is large, and any picture is converted strip by
strip, and made smaller on the way. All that are decoded at once share one memory.
"""

import warnings
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from expression.deep_colour import full_range
from expression.file_kinds import FORMATS, HEIC_ADVICE, heic_installed, is_heic, register_heic
from expression.memory import WORKING
from expression.preprocessing import flatten, is_deep, value_range
from expression.quiet_decoders import quiet_libtiff, quiet_pillow

__all__ = ["MAX_BYTES", "check_size", "decode", "upright_copy"]

MAX_BYTES = WORKING.most  # that decoding may take
KEPT = 30_000_000  # pixels: a larger picture is made smaller
JPEG_PIXELS = 1_000_000_000  # of the file: more would take seconds at any size
STRIP = 1_000_000  # pixels that are converted at once
REDUCTIONS = (1, 2, 4, 8, 16)
# Bytes a pixel of pillow's own picture, where it is not 4; and of what a decoder holds beside it
ONE_BAND = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
BESIDE = {"WEBP": 12, "AVIF": 6, "HEIF": 8, "JPEG2000": 14, "GIF": 4}
TIFF = (b"II", b"MM")
ROWS_PER_STRIP, ORIENTATION = 278, 274  # TIFF's and EXIF's numbers


def decode(file: BinaryIO, name: str, longest: int | None) -> Image.Image:
    """The picture in an open file that can be read again; errors call it `name`."""
    image = opened(file, name)
    reduced = draft(image, name, longest) if isinstance(image, JpegImageFile) else 1
    check_size(image, name)
    with WORKING.take(decoding_bytes(image)):
        if not isinstance(image, JpegImageFile):
            try:
                image = full_range(image, lambda: opened(file, name))
            except Exception as error:
                raise broken(name, error) from None
        flat, turned = loaded(image, name, reduced, longest)
        del image  # its memory is needed to turn the copy
        return upright(flat, turned)


def opened(file: BinaryIO, name: str) -> Image.Image:
    """The picture in a file, its pixels not read yet. Raises ValueError, see `decode`."""
    file.seek(0)
    head = file.read(64)
    file.seek(0)
    quiet_pillow()
    if head.startswith(TIFF):
        quiet_libtiff()
    try:
        with warnings.catch_warnings():  # `check_size` has a lower limit than pillow's error
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if head.startswith(b"\xff\xd8\xff"):
                return JpegImageFile(file)  # `Image.open` refuses 180 megapixels
            if is_heic(head):
                if not register_heic():
                    raise UnidentifiedImageError
                return Image.open(file, formats=("HEIF",))
            return Image.open(file, formats=FORMATS)
    except (UnidentifiedImageError, KeyError):  # pillow before 11.3 does not know AVIF
        raise ValueError(why_not(file, name)) from None
    except Image.DecompressionBombError:
        raise ValueError(
            f"{name} has too many pixels to be opened safely; scale it down, or export it as JPEG"
        ) from None
    except Exception as error:  # decoders raise nearly any exception for a broken file
        raise broken(name, error) from None


def broken(name: str, error: Exception) -> ValueError:
    reason = str(error) or type(error).__name__
    return ValueError(f"{name} is a broken picture ({reason}); export it again")


def why_not(file: BinaryIO, name: str) -> str:
    """The error message for a file that pillow does not know."""
    file.seek(0)
    head = file.read(2048)
    if not head:
        return f"{name} is an empty file; save or download it again"
    if is_heic(head) and heic_installed():
        return f"{name} is a broken picture (HEIC); export it again"
    if is_heic(head):
        return f"{name} is a HEIC picture; {HEIC_ADVICE}, or export it as JPEG"
    if b"<svg" in head:
        return f"{name} is a drawing of lines (SVG), which has no pixels; export it as PNG"
    return f"{name} is not a picture that can be read; give JPEG, PNG or WebP"


def reduction(pixels: int) -> int:
    """How much smaller a picture of so many pixels is made: 1, 2, 4, 8 or 16."""
    return next((r for r in REDUCTIONS if pixels <= KEPT * r * r), REDUCTIONS[-1])


def draft(image: JpegImageFile, name: str, longest: int | None) -> int:
    """Have a large JPEG decoded smaller; returns by how much: 1, 2, 4 or 8."""
    pixels = image.width * image.height
    if pixels > JPEG_PIXELS:
        raise ValueError(
            f"{name} has {pixels / 1e6:.0f} megapixels; at most {JPEG_PIXELS // 10**6} are opened; "
            "scale it down"
        )
    divisor = max(max(image.size) // longest, 1) if longest is not None else 1
    divisor, held = max(divisor, reduction(pixels)), coefficient_bytes(image)
    while divisor < 8 and held + 4 * pixels / divisor**2 > MAX_BYTES:
        divisor *= 2
    smaller = max(image.width // divisor, 1), max(image.height // divisor, 1)
    before, drafted = image.width, image.draft(None, smaller)
    return round(before / drafted[1][2]) if drafted else 1


def coefficient_bytes(image: JpegImageFile) -> float:
    """What libjpeg holds beside the picture: in a JPEG of several scans, all coefficients."""
    if not (image.info.get("progressive") or first_scan_is_partial(image)):
        return 0
    drafted = image.decoderconfig[0] if image.decoderconfig else 1
    pixels = image.width * image.height * drafted**2
    widest, highest = (max(layer[i] for layer in image.layer) for i in (1, 2))
    shares = sum(layer[1] * layer[2] for layer in image.layer) / (widest * highest)
    return 2 * shares * pixels  # two bytes each, of each component at its own size


def first_scan_is_partial(image: JpegImageFile) -> bool:
    """Whether the first scan holds less than all components: then there are more scans."""
    file, length = image.fp, 6 + 2 * image.layers
    if file is None or image.layers < 2:
        return False
    place = file.tell()  # after the header of the first scan
    file.seek(place - length)
    header = file.read(length)
    file.seek(place)
    return header[:3] != bytes([0, length, image.layers])


def decoding_bytes(image: Image.Image) -> float:
    """About how much memory decoding a file takes, before any conversion."""
    pixels = image.width * image.height
    own = pixels * ONE_BAND.get(image.mode, 4)
    if isinstance(image, JpegImageFile):
        return own + coefficient_bytes(image)
    if isinstance(image, TiffImageFile):  # a strip as it is stored, and a turned copy
        packed = any(tile[0] == "libtiff" for tile in image.tile)
        strip = min(image.tag_v2.get(ROWS_PER_STRIP, image.height) / image.height, packed)
        turned = image.tag_v2.get(ORIENTATION, 1) > 1
        return own * (1 + strip + turned)
    return own + pixels * BESIDE.get(image.format or "", 0)


def check_size(image: Image.Image, name: str) -> None:
    """Raises ValueError for a picture without pixels, or whose file takes more than `MAX_BYTES` of
    memory to decode; no pixel is read."""
    if min(image.size) < 1:
        width, height = image.size
        raise ValueError(f"{name} is {width} × {height} pixels; give a picture with pixels")
    if isinstance(image, ImageFile) and (needs := decoding_bytes(image)) > MAX_BYTES:
        raise ValueError(
            f"{name} has {image.width * image.height / 1e6:.0f} megapixels and would take "
            f"{needs / 1e6:.0f} MB to decode; at most {MAX_BYTES / 1e6:.0f} MB are used; scale it "
            "down, or export it as an ordinary JPEG"
        )


def upright_copy(image: Image.Image, name: str) -> Image.Image:
    """A new picture: read to the end, turned upright, flattened, without the file's metadata.

    `info["reduced"]` is how much smaller it is: 1 up to 30 megapixels.
    """
    return upright(*loaded(image, name))


def loaded(
    image: Image.Image, name: str, reduced: int = 1, longest: int | None = None
) -> tuple[Image.Image, int]:
    """(a flattened copy, its EXIF orientation). `reduced`: by how much it was decoded smaller.

    With `longest` the copy may be made smaller, but its longer side not smaller than that.
    """
    check_size(image, name)
    try:
        image.load()
    except Exception as error:  # as in `opened`
        raise broken(name, error) from None
    larger = max(image.size) // longest if longest is not None else 1
    fitting = max((r for r in REDUCTIONS if r <= larger), default=1)
    factor = max(reduction(image.width * image.height), fitting)
    flat = flattened(image, factor)
    flat.info = {"reduced": reduced * factor}
    try:
        return flat, int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # broken EXIF data do not mean broken pixels
        return flat, 1


def upright(flat: Image.Image, orientation: int) -> Image.Image:
    """The picture turned as EXIF's `orientation` says; it says so itself no more."""
    if orientation not in range(2, 9):
        return flat
    flat.getexif()[ORIENTATION] = orientation
    turned = ImageOps.exif_transpose(flat)
    # Whoever gets the picture would apply EXIF that is kept here a second time
    turned.info = {"reduced": flat.info["reduced"]}
    return turned


def flattened(image: Image.Image, factor: int) -> Image.Image:
    """A new picture of mode "L" or "RGB", `factor` times smaller, converted strip by strip."""
    width, height = image.size
    rows = max(STRIP // width // factor, 1) * factor
    if factor == 1 and rows >= height:
        flat = flatten(image)
        return image.copy() if flat is image else flat

    def strips() -> Iterator[Image.Image]:
        for top in range(0, height, rows):
            yield image.crop((0, top, width, min(top + rows, height)))

    values = value_range(map(np.asarray, strips())) if is_deep(image) else None
    whole: Image.Image | None = None
    for number, strip in enumerate(strips()):
        small = flatten(strip, values)
        small = small.reduce(factor) if factor > 1 else small
        if whole is None:
            whole = Image.new(small.mode, (small.width, -(-height // factor)))
        whole.paste(small, (0, number * rows // factor))
    assert whole is not None
    return whole
