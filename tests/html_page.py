"""Parse the text, tables and pictures of a rendered page."""

import base64
from html.parser import HTMLParser
from typing import NamedTuple

import cv2
import numpy as np

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Figure(NamedTuple):
    """A picture or its placeholder, with its caption."""

    section: str
    """The text of the heading above it."""
    picture: bytes
    """A JPEG, or empty."""
    caption: str
    group: int
    """The group of near-duplicates, counted from 1; 0 is none."""


class Page(HTMLParser):
    """A parsed page; fails if its tags are unbalanced, or it has scripts or external references."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text_of: dict[str, str] = {}  # everything below a heading
        self.tables: dict[str, list[list[str]]] = {}  # the rows below a heading
        self.figures: list[Figure] = []
        self.groups: list[str] = []  # the classes of each group of near-duplicates
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.pre = ""
        self._open: list[str] = []
        self._heading = ""
        self._caption = ""
        self._picture = b""
        self.feed(html)
        self.close()
        assert self._open == [], f"never closed: {self._open}"
        assert self.links <= self.ids, f"lead nowhere: {self.links - self.ids}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self._check(tag, attributes)
        if tag in {"h1", "h2", "h3"}:
            self._heading = ""
        if tag == "tr":
            self.tables.setdefault(self._heading, []).append([])
        if tag in {"td", "th"}:
            self.tables[self._heading][-1].append("")
        if tag == "figure":
            self._caption, self._picture = "", b""
        if tag == "img":
            self._picture = base64.b64decode(attributes["src"].split(",")[1], validate=True)
        if "group" in attributes.get("class", "").split():
            self.groups.append(attributes["class"])
        if tag not in VOID:
            self._open.append(tag)

    def _check(self, tag: str, attributes: dict[str, str]) -> None:
        assert tag not in {"script", "link", "iframe", "object", "base", "form"}
        assert not [name for name in attributes if name.startswith("on")]
        kinds = ("data:image/jpeg;base64,", "data:image/png;base64,")
        assert attributes.get("src", kinds[0]).startswith(kinds)
        assert "url(" not in attributes.get("style", "")
        if "href" in attributes:
            assert attributes["href"].startswith("#")
            self.links.add(attributes["href"][1:])
        if "id" in attributes:
            assert attributes["id"] not in self.ids
            self.ids.add(attributes["id"])

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag
        if tag == "figure":
            inside = len(self.groups) if "near" in self.ids and "sizes" not in self.ids else 0
            caption = " ".join(self._caption.split())
            self.figures.append(Figure(self._heading, self._picture, caption, inside))

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in {"h1", "h2", "h3"}:
            self._heading += data
        elif "figure" in self._open:
            self._caption += data
        elif {"td", "th"} & set(self._open):
            self.tables[self._heading][-1][-1] += data
        elif "pre" in self._open:
            self.pre += data
        elif "style" in self._open:
            assert "url(" not in data
            assert "@import" not in data
        else:
            self.text_of[self._heading] = self.text_of.get(self._heading, "") + data

    def below(self, heading: str) -> list[Figure]:
        """The figures below a heading."""
        return [figure for figure in self.figures if figure.section == heading]


def size(jpeg: bytes) -> tuple[int, int]:
    """Height and width of a picture that decodes."""
    pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return pixels.shape[0], pixels.shape[1]
