"""What a terminal can show, and what it must not be told.

Why: `python predict.py photo.jpg > log.txt` writes cp1252 on many Windows machines, which knows
neither "█" nor "→" nor most people's file names. A run must not end over a character. And names of
files, classes and data sets are other people's: one with an escape code clears the screen. Places
that show a name use `shown`; this is the second line, for every place that forgets it.
"""

import io
import re
import sys
from collections.abc import Callable

from expression.files import shown

__all__ = ["can_print", "escape_unprintable", "without_codes"]

# What progress bars and coloured help write themselves: the cursor one line up, and colours
OWN_CODES = re.compile(r"(\x1b\[(?:\d+(?:;\d+)*)?m|\x1b\[A|[\n\r\t])")
LINES = re.compile(r"([\n\r\t])")


def escape_unprintable() -> None:
    """From now on, print characters that the terminal lacks as escapes (\\u2588), and those that
    would change what it shows (control codes, bidirectional marks) too.

    Each program calls this first, before anything is printed. Streams that a notebook or a test
    puts in place of the usual ones are left as they are.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            if not hasattr(stream.write, "terminal"):  # called once more
                stream.write = safe_write(stream)  # type: ignore[method-assign]


def safe_write(stream: io.TextIOWrapper) -> Callable[[str], int]:
    """The stream's `write`, for text that may hold anybody's names."""
    plain, terminal = stream.write, stream.isatty()

    def write(text: str) -> int:
        plain(without_codes(text, terminal))
        return len(text)

    write.terminal = terminal  # type: ignore[attr-defined]
    return write


def without_codes(text: str, terminal: bool) -> str:
    """The text with escapes for what would change how other text is shown; line breaks stay, and
    on a terminal colours and the progress bars' cursor too."""
    parts = (OWN_CODES if terminal else LINES).split(text)
    if all(part.isprintable() for part in parts[::2]):
        return text
    parts[::2] = map(shown, parts[::2])
    return "".join(parts)


def can_print(text: str) -> bool:
    """Whether standard output shows this text as it is."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
