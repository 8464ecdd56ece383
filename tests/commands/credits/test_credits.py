import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.commands.credits.credits import Credit, credit_lines, read_credits
from pipeline.core import columns, shards
from pipeline.core.errors import PipelineError
from pipeline.datasets.licences import LICENCES

URL, PAGE = "https://live.example.org/1.jpg", "https://www.example.org/photos/jo/1/"
BY = "CC BY 4.0"
BY_TEXT = "https://creativecommons.org/licenses/by/4.0/"


def row(**facts: Any) -> dict[str, Any]:
    return {"id": "0", "label": "cat", "name": "cat/1", "bytes": b"x"} | facts


def lines(folder: Path, *rows: dict[str, Any]) -> list[str]:
    shards.write(folder / "raw", shards.RAW, rows)
    credits = list(credit_lines(folder / "raw"))
    assert (
        credits.pop()
        == "Large ones were scaled down, and all but plain JPEGs and PNGs were converted."
    )
    return credits


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (
            {"title": "Mieze", "owner": "Jo", "licence": BY, "page_url": PAGE, "url": URL},
            f'"Mieze" by Jo, {PAGE}, under {BY} ({BY_TEXT})',
        ),
        (
            {"owner": "Jo", "licence": BY, "page_url": PAGE},
            f"Untitled by Jo, {PAGE}, under {BY} ({BY_TEXT})",
        ),
        (
            {"title": "T", "licence": BY, "page_url": PAGE},
            f'"T" by an unknown owner, {PAGE}, under {BY} ({BY_TEXT})',
        ),
        (
            {"title": "T", "owner": "Jo", "licence": BY, "url": URL},
            f'"T" by Jo, {URL}, under {BY} ({BY_TEXT})',
        ),
        (
            {"title": "T", "owner": "Jo", "licence": "Jo's own", "url": URL},
            f'"T" by Jo, {URL}, under Jo\'s own',
        ),
        (
            {"title": "T", "owner": "Jo", "licence": "All rights reserved", "url": URL},
            f'"T" by Jo, {URL}, under All rights reserved',
        ),
        (
            {"title": "T", "owner": "Jo", "url": URL},
            f'"T" by Jo, {URL}, without a stated licence',
        ),
    ],
    ids=["all", "untitled", "no owner", "no page", "unknown licence", "no text", "no licence"],
)
def test_a_credit_names_title_author_source_and_licence(
    tmp_path: Path, facts: dict[str, str], line: str
) -> None:
    assert lines(tmp_path, row(**facts)) == [line]


def test_every_licence_has_its_url(tmp_path: Path) -> None:
    rows = (row(owner="Jo", url=URL, licence=licence) for licence in LICENCES)
    credits = lines(tmp_path, *rows)
    for line, (licence, (_, url)) in zip(credits, LICENCES.items(), strict=True):
        assert line.endswith(f", under {licence}" + (f" ({url})" if url else ""))


def test_credits_come_in_the_order_of_the_images(tmp_path: Path) -> None:
    credits = lines(tmp_path, *(row(title=f"t{n}", owner="Jo", url=URL) for n in (3, 1, 2)))
    assert [line.split()[0] for line in credits] == ['"t3"', '"t1"', '"t2"']


def test_images_without_an_owner_are_counted_by_licence_at_the_end(tmp_path: Path) -> None:
    credits = lines(
        tmp_path,
        row(licence=BY),
        row(licence="Mine", url=URL),
        row(),
        row(licence=BY),
        row(owner="Jo", url=URL, licence=BY),
    )
    assert credits[1:] == [
        f"2 images under {BY} ({BY_TEXT})",
        "1 image under Mine",
        "1 image without a stated licence",
    ]
    assert credits[0].startswith("Untitled by Jo, ")


@pytest.mark.parametrize("column", ["title", "owner", "licence", "page_url"])
def test_control_characters_are_removed(tmp_path: Path, column: str) -> None:
    # Of every class: line ends, escape sequences, bell, bidirectional overrides, null.
    control = "\r\n\x1b[31m\x07\u202e\u2028\0"
    facts = {"title": "T", "owner": "Jo", "licence": BY, "page_url": PAGE} | {
        column: f"before{control}after"
    }
    (line,) = lines(tmp_path, row(**facts))
    assert line.isprintable()
    assert "before" in line
    assert line.count("after") == 1


def test_control_characters_are_removed_from_counted_licences(tmp_path: Path) -> None:
    (line,) = lines(tmp_path, row(licence="Mine\n\x1b[31m"))
    assert line.isprintable()


def test_missing_shards_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="has no shards"):
        list(credit_lines(tmp_path / "raw"))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
PHOTO = st.fixed_dictionaries(
    {"owner": TEXT, "url": TEXT},
    optional=dict.fromkeys(("title", "licence", "page_url"), TEXT),
)


@settings(derandomize=True, max_examples=60)
@given(st.lists(PHOTO, min_size=1, max_size=5))
@example([{"owner": "\x1b]0;a\x07", "url": "\u2066", "title": "\u2029", "licence": "\x85"}])
def test_each_photograph_has_one_printable_line(photos: list[dict[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        credits = lines(Path(folder), *(row(**photo) for photo in photos))
    assert len(credits) == len(photos)
    assert all(line.isprintable() for line in credits)
    assert len("\n".join(credits).splitlines()) == len(photos)


@pytest.mark.parametrize(
    ("source", "is_link"),
    [
        (PAGE, True),
        ("http://a.example/", True),
        ("javascript:alert(1)", False),
        ("https://user:password@a.example/", False),
        ("https://[", False),
        ("/photos/1.jpg", False),
        (None, False),
    ],
)
def test_pages_link_to_public_addresses_alone(source: str | None, is_link: bool) -> None:
    assert Credit(None, None, None, source).link == (source if is_link else None)


def test_credits_of_some_images_come_in_their_order(tmp_path: Path) -> None:
    rows = [row(id=str(number), owner=f"owner {number}") for number in range(3)]
    shards.write(tmp_path, shards.RAW, rows)
    credits = read_credits(tmp_path, columns.texts(["2", "0"]))
    assert [credit.owner for credit in credits] == ["owner 2", "owner 0"]
    with pytest.raises(PipelineError, match="lacks the image '7'"):
        read_credits(tmp_path, columns.texts(["7"]))
