"""A chart of the page: its drawing, its key, and the same numbers as a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

COLOURS = 12  # of the style sheet: classes c0 to c11


@dataclass(frozen=True)
class Key:
    """What a colour stands for."""

    colour: int
    """The number of the class in the style sheet."""
    name: str
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """The facts of a figure."""

    title: str
    summary: str
    """What it shows, in a sentence for people who do not see it."""
    svg: Markup
    keys: Sequence[Key] = ()
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    """The numbers of the marks, where no other table of the page has them."""
    is_large: bool = False
    """Whether a phone shows a part of it, to scroll, rather than all of it in small."""
