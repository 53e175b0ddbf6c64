"""What a terminal can show.

Why: `python predict.py photo.jpg > log.txt` writes cp1252 on many Windows machines, which knows
neither "█" nor "→" nor most people's file names. A run must not end over a character.
"""

import io
import sys

__all__ = ["can_print", "escape_unprintable"]


def escape_unprintable() -> None:
    """From now on, print characters that the terminal lacks as escapes (\\u2588).

    Each program calls this first, before anything is printed. Streams that a notebook or a test
    puts in place of the usual ones are left as they are.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def can_print(text: str) -> bool:
    """Whether standard output shows this text as it is."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
