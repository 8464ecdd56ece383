"""Cells of CSV files that people open in a spreadsheet.

A spreadsheet computes text that starts with =, +, - or @, and a stranger may have chosen it: the
title "=HYPERLINK(...)" can send its author what the other cells contain. Such text is written with
an apostrophe before it, and read without. Numbers stay as they are.

Source: OWASP, "CSV Injection".
"""

import csv
import re
from collections.abc import Iterable
from typing import Any, TextIO

# A cell also starts after a line break and, for programs that separate by semicolons (Excel in most
# of Europe) or tabs, in the middle of a text.
_START = r"(?<![^;\t\r\n])"
# Controls, blanks, quotes and invisible characters, which some programs remove.
_IGNORED = (
    r"[\x00-\x08\x0b\x0c\x0e-\x20\"'\x7f-\xa0\xad\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f"
    r"\u3000\ufeff]*"
)
# Also in the full and small widths of East Asian keyboards, the minus sign, and white space that
# some programs remove.
_FORMULA = rf"(?={_IGNORED}[=+\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212\t\r\n])"

_DANGEROUS = re.compile(rf"{_START}{_FORMULA}")
_ESCAPED = re.compile(rf"{_START}'{_FORMULA}")


def escape(cell: object) -> object:
    """A text that no spreadsheet computes; anything but a text as it is."""
    if not isinstance(cell, str) or cell.isalnum():  # ids, which are most of the cells
        return cell
    return _DANGEROUS.sub("'", cell)


def unescape(cell: str) -> str:
    """The text that `escape` was given; an apostrophe before other text stays: "'tis"."""
    return _ESCAPED.sub("", cell) if "'" in cell else cell


class _Lines:
    """Replaces the "\\r\\n" that csv ends lines with (it quotes "\\r" only then) by "\\n"."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, line: str) -> int:
        return self._file.write(line.removesuffix("\r\n") + "\n")


def write_rows(file: TextIO, rows: Iterable[Iterable[object]]) -> None:
    """Write rows, with their texts escaped."""
    csv.writer(_Lines(file)).writerows([escape(cell) for cell in row] for row in rows)


class DictReader(csv.DictReader):  # type: ignore[type-arg] # subscriptable from Python 3.12 on
    """Like csv.DictReader, with the texts as they were before `escape`."""

    def __next__(self) -> dict[str | Any, str | Any]:
        row = super().__next__()
        return {_unescape_text(name): _unescape_text(cell) for name, cell in row.items()}


def _unescape_text(cell: Any) -> Any:
    """Also for a row that is too short (None) or too long (a list)."""
    return unescape(cell) if isinstance(cell, str) else cell
