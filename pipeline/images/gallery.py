"""Pages of one file, for a browser anywhere: pictures are inside, nothing is fetched."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True)
class GalleryImage:
    """An image on a page."""

    id: str
    name: str
    label: str
    picture: str
    """A data URI, or "" where there is nothing to see."""
    note: str = ""


def data_uri(jpeg: bytes | None) -> str:
    """What an <img> takes as its source; "" of None."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" if jpeg else ""


def render(template: str, facts: Mapping[str, object]) -> str:
    """The HTML of a page. Names and labels come from strangers: everything is escaped."""
    environment = Environment(
        loader=PackageLoader("pipeline", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(facts)
