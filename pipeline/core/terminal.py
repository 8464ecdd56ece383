"""What strangers wrote, for a terminal, and for a file system."""

import re
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def plain(text: str) -> str:
    """On one line, without anything that a terminal obeys."""
    return "".join(character if character.isprintable() else " " for character in text)


def one_line(error: BaseException) -> str:
    """What an error says, short, and without a password."""
    said = plain(" ".join(without_password(str(error)).split()))[:200]
    return said or type(error).__name__


def without_password(text: str) -> str:
    """Addresses without what may open them."""
    # Up to the last @: a password may have any sign. A query may have one, too.
    return re.sub(r"(://[^\s?]*)\?[^\s:)]*", r"\1", re.sub(r"://\S*@", "://", text))


def file_name(text: str) -> str:
    """As a file or folder may be called anywhere: it leads nowhere else, and is not hidden."""
    shown = "".join(each if each.isprintable() else "_" for each in text)
    return re.sub(r'[\\/:*?"<>|]|^\.+', "_", shown)  # what some system reserves


def show(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = False) -> None:
    """Print a table; `numbers`: all columns but the first are numbers."""
    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(header):
        table.add_column(name, justify="right" if numbers and place else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    # Who pipes it looks for whole words; nobody has a terminal that is this wide.
    Console(width=None if sys.stdout.isatty() else 1000).print(table)
