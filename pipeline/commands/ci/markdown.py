"""Markdown as GitHub and GitLab read it. Names and labels come from strangers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.core.terminal import printable

MAX_CELL_LENGTH = 48  # characters in a cell of a table
# Entities, since a backslash does not keep @name from being a person or #1 from being an issue. The
# colon and the dot are those of http://, of :smile: and of www., which become links and pictures.
OBEYED = re.compile(r"[\\`*_\[\]<>|~&#@$]|:(?=\S)|(?<=www)\.", re.IGNORECASE)


@dataclass(frozen=True)
class Markup:
    """Text that is Markdown already."""

    text: str


Cell = str | Markup


def escape(text: str) -> str:
    """Text that shows as it is: no link, tag, emphasis, mention or end of a cell is in it."""
    return OBEYED.sub(lambda found: f"&#{ord(found[0])};", printable(text))


def bold(text: str) -> Markup:
    return Markup(f"**{escape(text)}**")


def code(line: str) -> list[str]:
    """A line for a terminal; what it holds cannot end the block, which a line of its own would."""
    return ["```console", f"$ {printable(line)}", "```"]


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    """Its lines; all columns but the first are numbers."""
    aligned = ["---", *("---:" for _ in header[1:])]
    return [_row(header), _line(aligned), *(_row(row) for row in rows)]


def facts(pairs: Sequence[tuple[str, Cell]]) -> list[str]:
    """A list of what is what."""
    return [f"- {escape(name)}: {_text(value)}" for name, value in pairs]


def _row(cells: Sequence[Cell]) -> str:
    return _line([_text(_cut(cell) if isinstance(cell, str) else cell) for cell in cells])


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CELL_LENGTH else f"{text[: MAX_CELL_LENGTH - 1]}…"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(cell: Cell) -> str:
    return cell.text if isinstance(cell, Markup) else escape(cell)
