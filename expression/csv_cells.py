"""Text in a CSV table that no spreadsheet takes for a formula.

Why: Excel, LibreOffice and Google Sheets run a cell that begins with "=", "+", "-" or "@", and a
picture may be called `=HYPERLINK("http://…","photo").jpg` by whoever sent it. Such text gets an
apostrophe in front, which spreadsheets take as "this is text". Numbers are no text: leave them.
Source: OWASP, "CSV injection". Needs nothing; copy freely (MIT, see LICENSE).
"""

import re

__all__ = ["cell_of", "text_of"]

# The full-width forms are taken as the plain ones by spreadsheets of East Asian languages
FORMULA = re.compile(r"'*\s*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r]")


def cell_of(text: str) -> str:
    """Text from anybody, such as a file's or a class's name → what a table holds for it.

    Where apostrophes already stand before the sign one more is added, so that `text_of` finds
    every text again.
    """
    return f"'{text}" if FORMULA.match(text) else text


def text_of(cell: str) -> str:
    """A table's cell → the text that `cell_of` was given."""
    return cell[1:] if cell[:1] == "'" and FORMULA.match(cell) else cell
