"""HTML pages in one file: pictures are embedded and nothing is fetched."""

import base64
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.core.terminal import printable_lines

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class GalleryImage:
    """An image on a page."""

    id: str
    name: str
    label: str
    picture: str
    """A data URI, or "" without a picture."""
    note: str = ""


def data_uri(jpeg: bytes | None) -> str:
    """The source of an <img>; "" for None."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" if jpeg else ""


def render(template: str, facts: "DataclassInstance") -> str:
    """Render a page; the fields of `facts` are the template's variables.

    Names and labels are untrusted: HTML in them is escaped, and so are characters that turn the
    direction of writing or are invisible.
    """
    variables = {field.name: getattr(facts, field.name) for field in fields(facts)}
    return _environment().get_template(template).render(variables)


@cache
def _environment() -> Environment:
    """The same for all pages, since it keeps the templates that it has compiled."""
    return Environment(
        loader=PackageLoader("pipeline", ""),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _visible(value: object) -> object:
    is_html = hasattr(value, "__html__")
    return printable_lines(value) if isinstance(value, str) and not is_html else value
