"""Broken pictures are told in our words, once: what decoders say beside is not shown.

Why: pillow warns, pillow logs, and libtiff writes to standard error past Python: 60 broken TIFFs
filled a terminal with 700 lines such as "Fax4Decode: Bad code word", which hide the one sentence
that names the file, and which no `warnings` filter stops.
"""

import ctypes
import ctypes.util
import logging
import warnings
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import PIL

__all__ = ["quiet_libtiff", "quiet_pillow"]

# Where pillow's wheels keep their own libtiff: Linux, macOS. Those for Windows have it inside.
BUNDLED = (("../pillow.libs", "libtiff*.so*"), (".dylibs", "libtiff*.dylib"))


@lru_cache
def quiet_pillow() -> None:
    """From now on pillow's warnings are left out, and its log goes to a program's log alone.

    Once for the process, because `warnings.catch_warnings` is not safe among threads.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # or Python prints it


@lru_cache
def quiet_libtiff() -> None:
    """From now on libtiff keeps its messages for itself; a broken picture raises as before."""
    for path in libtiffs():
        with suppress(OSError, AttributeError):  # no such library, or without these names
            library = ctypes.CDLL(path)  # the one that pillow has loaded, not another
            library.TIFFSetErrorHandler.argtypes = [ctypes.c_void_p]
            library.TIFFSetWarningHandler.argtypes = [ctypes.c_void_p]
            library.TIFFSetErrorHandler(None)
            library.TIFFSetWarningHandler(None)


def libtiffs() -> list[str]:
    """The libtiff inside pillow's package; else the system's, which pillow was built with."""
    folder = Path(PIL.__file__).parent
    found = [str(path.resolve()) for place, name in BUNDLED for path in (folder / place).glob(name)]
    return found or [name for name in [ctypes.util.find_library("tiff")] if name]
