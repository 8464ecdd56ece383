"""SVG as text: elements, marks that say their number, the size of text.

Names are untrusted: text and attributes are escaped, and characters that are invisible or turn the
direction of writing are made visible. Colours are classes of the page's style sheet, which has
others for dark screens. Lengths are pixels of a chart that is drawn at its natural size.
"""

import unicodedata
from dataclasses import dataclass

from markupsafe import Markup, escape

from pipeline.core.terminal import printable

FONT_SIZE = 11
MAX_NAME_LENGTH = 18  # characters; the middle of a longer name is left out
READOUT = 20  # the height of the line above a chart that says what is under the pointer


def element(name: str, *children: Markup | str, **attributes: object) -> Markup:
    """An element; `class_` is the attribute class, `text_anchor` is text-anchor."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_format(value))}"'
        for key, value in attributes.items()
    )
    content = Markup("").join(children)
    tag = f"{name}{written}"
    return Markup(f"<{tag}>{content}</{name}>" if content else f"<{tag}/>")  # noqa: S704 # escaped


def _format(value: object) -> str:
    return coordinate(value) if isinstance(value, float) else str(value)


def coordinate(value: float) -> str:
    """With at most one decimal."""
    written = f"{value:.1f}".removesuffix(".0")
    return "0" if written == "-0" else written


def text(content: str, x: float, y: float, class_: str = "", anchor: str = "") -> Markup:
    """A line of text that starts, or by `anchor` ends or has its middle, at a point."""
    attributes = {"x": coordinate(x) if x else "", "y": coordinate(y)}
    attributes |= {"class_": class_, "text_anchor": anchor}
    written = {name: value for name, value in attributes.items() if value}
    return element("text", escape(printable(content)), **written)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def mark(shape: Markup, readout: str) -> Markup:
    """A shape, and what the line above the chart says while the pointer or a finger is on it.

    It can have the focus, so that a finger can select it, but not by the keyboard: a chart has
    hundreds, and tables have the same numbers.
    """
    return element("g", shape, text(readout, 0, FONT_SIZE, "readout"), class_="mark", tabindex=-1)


@dataclass(frozen=True)
class Size:
    """Of a drawing, in pixels."""

    width: float
    height: float

    def svg(self, *children: Markup) -> Markup:
        """The drawing; a screen reader gets the figure's label and the table instead."""
        return element(
            "svg",
            *children,
            viewBox=f"0 0 {coordinate(self.width)} {coordinate(self.height)}",
            width=self.width,
            height=self.height,
            aria_hidden="true",
        )


def shorten(name: str, most: int = MAX_NAME_LENGTH) -> str:
    """A name on one line, of at most so many characters."""
    name, half = printable(name), most // 2
    return name if len(name) <= most else f"{name[:half]}…{name[1 - half :]}"


def width_of(content: str) -> float:
    """About the width of a line of text, at most; fonts differ."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in content)
    return FONT_SIZE * (0.62 * (len(content) - wide) + 1.05 * wide)
