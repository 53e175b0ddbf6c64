"""Which files are pictures and which are videos: the endings of their names, and how they begin.

Why: the command line, the demo and the training folders must take the same files. With a list in
each of them, a picture that one opens is passed over in silence by another. And what is no file at
all (a pipe, a device) must not be opened: reading it may wait, or go on, for ever.
"""

import os
import stat
from importlib.util import find_spec
from pathlib import Path

from expression.files import shown

__all__ = [
    "FORMATS",
    "HEIC",
    "HEIC_ADVICE",
    "PICTURES",
    "SYSTEM_NAMES",
    "VIDEOS",
    "check_address",
    "heic_installed",
    "is_heic",
    "is_picture_name",
    "is_url",
    "is_video_name",
    "looks_like_a_picture",
    "picture_endings",
    "register_heic",
    "special_kind",
]

# What pillow may open. Not EPS: pillow would start another program, Ghostscript, with a stranger's
# file.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
PICTURES = frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .bmp .gif .tif .tiff .avif .avifs "
    ".pbm .pgm .ppm .pnm .pfm .jp2 .j2k .j2c .jpc .jpf .jpx".split()
)
HEIC = frozenset({".heic", ".heif", ".hif"})  # with the package pillow-heif
HEIC_ADVICE = "to open HEIC: pip install pillow-heif"
# The containers of `expression.frames.SAFE`. Not .ogg, which is mostly sound.
VIDEOS = frozenset(
    ".mp4 .m4v .mov .qt .3gp .3g2 .f4v .mkv .webm .avi .divx .wmv .asf .flv .ogv "
    ".mpg .mpeg .mpe .vob .ts .mts .m2ts .m2t".split()
)
SYSTEM_NAMES = frozenset({"__macosx", "thumbs.db", "desktop.ini"})  # in lower case
NO_FILES = {  # the type of a path that is neither a file nor a folder → what it is called
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
BEGINNINGS = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+",
    b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", *(b"P%d" % kind for kind in range(1, 7)), b"Pf", b"PF",
)  # fmt: skip


def heic_installed() -> bool:
    return find_spec("pillow_heif") is not None


def register_heic() -> bool:
    """Let pillow open HEIC as the format "HEIF"; False without the package pillow-heif."""
    if not heic_installed():
        return False
    from pillow_heif import register_heif_opener  # loads libheif, so only when needed

    register_heif_opener(thumbnails=False)
    return True


def picture_endings() -> frozenset[str]:
    """The endings, in lower case, of the pictures that can be opened on this machine."""
    return PICTURES | HEIC if heic_installed() else PICTURES


def is_picture_name(name: str | Path) -> bool:
    return Path(name).suffix.lower() in picture_endings()


def is_video_name(name: str | Path) -> bool:
    return Path(name).suffix.lower() in VIDEOS


def is_heic(head: bytes) -> bool:
    """Whether a file that begins so is HEIC; `head` is its first 64 bytes or more."""
    brands = head[8:12], head[16 : int.from_bytes(head[:4], "big")]
    return head[4:8] == b"ftyp" and brands[0] in HEIC_BRANDS and b"avi" not in brands[1]


def looks_like_a_picture(head: bytes) -> bool:
    """Whether a file that begins so is a picture of a kind known here, HEIC included."""
    return (
        head.startswith(BEGINNINGS)
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:2] == b"BM" and head[6:10] == bytes(4))
        or (head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS | {b"avif", b"avis"})
    )


def is_url(name: object) -> bool:
    """Whether this is a web address."""
    return isinstance(name, str) and name.lower().startswith(("http://", "https://"))


def check_address(name: str) -> None:
    """Raises ValueError for an address that is not of the web, such as ftp://example.org/a.jpg."""
    if "://" in name and not is_url(name) and not os.path.exists(name):
        raise ValueError(f"{shown(name)}: an address begins with http:// or https://")


def special_kind(path: str | Path) -> str:
    """What a path leads to, links followed, where that is neither a file nor a folder.

    "pipe", "socket" or "device"; "broken link" for a link that leads nowhere or in a circle. "" for
    a file, a folder, and a path that is missing or may not be looked at: opening it says so.
    """
    try:
        return NO_FILES.get(stat.S_IFMT(os.stat(path).st_mode), "")
    except (OSError, ValueError):  # missing, locked, a name too long or with a null byte
        return "broken link" if os.path.islink(path) else ""
