import base64
import re
from dataclasses import dataclass

import pytest
from jinja2 import UndefinedError

from pipeline.core.terminal import printable_lines
from pipeline.images import gallery
from pipeline.images.gallery import GalleryImage, data_uri
from tests import ROOT
from tests.builders.names import DECEPTIVE
from tests.html_page import Page

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='x",
    "a\nb",
    "[bold]x[/bold]",
    "{{ 7 * 7 }}",
    "&amp;lt;",
    "żółw/日本語",
    "\x1b[31m",
    "{% raw %}",
    "</pre><h1>x</h1>",
    "javascript:alert(1)",
]


PAGE = "commands/suspects/suspects.html"


@dataclass(frozen=True)
class Facts:
    name: str
    suspects: list[GalleryImage]
    lines: str


@dataclass(frozen=True)
class TooFewFacts:
    name: str


def render(*images: GalleryImage, name: str = "cats", lines: str = "id,why\n") -> str:
    return gallery.render(PAGE, Facts(name, list(images), lines))


def test_a_picture_is_inside_the_page() -> None:
    (figure,) = Page(
        render(GalleryImage("1f" * 32, "a/b.jpg", "cat", data_uri(b"jpeg"), "odd"))
    ).figures
    assert figure.picture == b"jpeg"
    assert figure.caption == "cat · oddb.jpg1f1f1f1f1f1f"


def test_an_image_without_a_picture_has_a_caption() -> None:
    (figure,) = Page(render(GalleryImage("1f" * 32, "a/b.jpg", "cat", data_uri(None)))).figures
    assert (figure.picture, figure.caption) == (b"", "catb.jpg1f1f1f1f1f1f")


@pytest.mark.parametrize("jpeg", [None, b""])
def test_an_empty_picture_has_no_uri(jpeg: bytes | None) -> None:
    assert data_uri(jpeg) == ""


def test_a_uri_contains_the_bytes() -> None:
    kind, _, rest = data_uri(bytes(range(256))).partition(",")
    assert (kind, base64.b64decode(rest)) == ("data:image/jpeg;base64", bytes(range(256)))


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_is_escaped(hostile: str) -> None:
    image = GalleryImage("1f" * 32, hostile, hostile, data_uri(b"jpeg"), hostile)
    html = render(image, name=hostile, lines=hostile)
    page = Page(html)
    (figure,) = page.figures
    visible = printable_lines(hostile)
    assert " ".join(visible.split()) in figure.caption
    assert page.pre == visible
    assert "<script" not in html
    assert "<img src=x" not in html


@pytest.mark.parametrize("hostile", DECEPTIVE)
def test_text_that_deceives_is_visible_on_every_page(hostile: str) -> None:
    image = GalleryImage("1f" * 32, hostile, hostile, data_uri(b"jpeg"), hostile)
    html = render(image, name=hostile, lines=hostile)
    # Line breaks and tabs are white space in HTML.
    assert html.replace("\n", "").replace("\t", "").isprintable()
    assert not {character for character in hostile if not character.isascii()} & set(html)


def test_no_other_module_renders_html() -> None:
    """Another environment of jinja might not escape."""
    modules = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob("pipeline/**/*.py")
        if re.search(r"\bjinja2\b", path.read_text())
    }
    assert modules == {"pipeline/images/gallery.py", "pipeline/commands/export/plain_torch.py"}


def test_a_page_requests_nothing() -> None:
    html = render(GalleryImage("1f" * 32, "a", "b", data_uri(b"jpeg")))
    assert "http://" not in html
    assert "https://" not in html
    assert "default-src 'none'" in html
    assert html.startswith("<!doctype html>")
    assert '<meta charset="utf-8">' in html


def test_the_same_facts_give_the_same_page() -> None:
    image = GalleryImage("1f" * 32, "a", "b", data_uri(b"jpeg"))
    assert render(image) == render(image)


def test_a_missing_fact_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        gallery.render(PAGE, TooFewFacts("cats"))
