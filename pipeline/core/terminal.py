"""Text for a terminal: made safe where it comes from outside, tables, warnings."""

import re
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def printable(text: str) -> str:
    """`text` on one line, without control characters."""
    return "".join(character if character.isprintable() else " " for character in text)


def one_line(error: BaseException) -> str:
    """The message of an error on one line of at most 200 characters, without passwords."""
    message = printable(" ".join(without_password(str(error)).split()))[:200]
    return message or type(error).__name__


def without_password(text: str) -> str:
    """Text whose URLs have no user, password or query."""
    # Up to the last @, since a password may contain any character; a query may hold a token.
    return re.sub(r"(://[^\s?]*)\?[^\s:)]*", r"\1", re.sub(r"://\S*@", "://", text))


def safe_file_name(text: str) -> str:
    """A visible file name that every system accepts and that leads to no other folder."""
    name = "".join(character if character.isprintable() else "_" for character in text)
    return re.sub(r'[\\/:*?"<>|]|^\.+', "_", name)


def warn(message: str) -> None:
    """Print a warning on stderr, on one line and without control characters."""
    print(f"warning: {printable(message)}", file=sys.stderr, flush=True)


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = False
) -> None:
    """Print a table.

    Args:
        numbers: Whether all columns but the first are numbers, which are aligned right.
    """
    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if numbers and index else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    # Do not wrap when piped: grep needs whole words.
    Console(width=None if sys.stdout.isatty() else 1000).print(table)
