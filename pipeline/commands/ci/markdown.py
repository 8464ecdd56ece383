"""Markdown for GitHub and GitLab. Escapes names and labels, which are untrusted."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.core.terminal import printable

MAX_CELL_LENGTH = 48  # characters in a cell of a table
# Escaped as HTML entities: a backslash would still leave @name a mention and #1 an issue. The colon
# and dot are those of http://, :smile: and www., which become links and pictures.
SPECIAL = re.compile(r"[\\`*_\[\]<>|~&#@$]|:(?=\S)|(?<=www)\.", re.IGNORECASE)


@dataclass(frozen=True)
class Markup:
    """Text that is already Markdown, and is not escaped."""

    text: str


TableCell = str | Markup


def escape(text: str) -> str:
    """Text that is rendered literally, without links, tags, emphasis or mentions."""
    return SPECIAL.sub(lambda match: f"&#{ord(match[0])};", printable(text))


def bold(text: str) -> Markup:
    return Markup(f"**{escape(text)}**")


def code(command: str) -> list[str]:
    """A code block with one command, on one line: a line break could end the block."""
    return ["```console", f"$ {printable(command)}", "```"]


def table(header: Sequence[str], rows: Sequence[Sequence[TableCell]]) -> list[str]:
    """Lines of a table; all columns but the first are aligned as numbers."""
    alignment = ["---", *("---:" for _ in header[1:])]
    return [_row(header), _join(alignment), *(_row(row) for row in rows)]


def definitions(pairs: Sequence[tuple[str, TableCell]]) -> list[str]:
    """Lines of a list of names and values."""
    return [f"- {escape(name)}: {_markup(value)}" for name, value in pairs]


def _row(cells: Sequence[TableCell]) -> str:
    return _join([_markup(_shorten(cell) if isinstance(cell, str) else cell) for cell in cells])


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_CELL_LENGTH else f"{text[: MAX_CELL_LENGTH - 1]}…"


def _join(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markup(cell: TableCell) -> str:
    return cell.text if isinstance(cell, Markup) else escape(cell)
