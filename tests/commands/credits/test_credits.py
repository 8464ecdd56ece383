import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.commands.credits.credits import credit_lines
from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.licences import LICENCES

URL, PAGE = "https://live.example.org/1.jpg", "https://www.example.org/photos/jo/1/"
BY = "CC BY 4.0"
BY_TEXT = "https://creativecommons.org/licenses/by/4.0/"


def row(**facts: Any) -> dict[str, Any]:
    return {"id": "0", "label": "cat", "name": "cat/1", "bytes": b"x"} | facts


def lines(folder: Path, *rows: dict[str, Any]) -> list[str]:
    shards.write(folder / "raw", shards.RAW, rows)
    found = list(credit_lines(folder / "raw"))
    assert (
        found.pop()
        == "Large ones were scaled down, and all but plain JPEGs and PNGs were converted."
    )
    return found


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


@pytest.mark.parametrize("licence", LICENCES)
def test_every_licence_is_linked_where_it_can_be_read(tmp_path: Path, licence: str) -> None:
    (line,) = lines(tmp_path, row(owner="Jo", url=URL, licence=licence))
    text = LICENCES[licence][1]
    assert line.endswith(f", under {licence}" + (f" ({text})" if text else ""))


def test_credits_come_in_the_order_of_the_images(tmp_path: Path) -> None:
    found = lines(tmp_path, *(row(title=f"t{n}", owner="Jo", url=URL) for n in (3, 1, 2)))
    assert [line.split()[0] for line in found] == ['"t3"', '"t1"', '"t2"']


def test_images_of_nobody_are_counted_by_licence_behind_the_others(tmp_path: Path) -> None:
    found = lines(
        tmp_path,
        row(licence=BY),
        row(licence="Mine", url=URL),
        row(),
        row(licence=BY),
        row(owner="Jo", url=URL, licence=BY),
    )
    assert found[1:] == [
        f"2 images under {BY} ({BY_TEXT})",
        "1 images under Mine",
        "1 images without a stated licence",
    ]
    assert found[0].startswith("Untitled by Jo, ")


@pytest.mark.parametrize("column", ["title", "owner", "licence", "page_url"])
@pytest.mark.parametrize("strange", ["\n", "\r\n", "\x1b[31m", "\x07", "\u202e", "\u2028", "\0"])
def test_strangers_neither_break_lines_nor_command_a_terminal(
    tmp_path: Path, column: str, strange: str
) -> None:
    facts = {"title": "T", "owner": "Jo", "licence": BY, "page_url": PAGE} | {
        column: f"before{strange}after"
    }
    (line,) = lines(tmp_path, row(**facts))
    assert line.isprintable()
    assert "before" in line
    assert line.count("after") == 1


def test_the_licence_of_images_of_nobody_commands_no_terminal(tmp_path: Path) -> None:
    (line,) = lines(tmp_path, row(licence="Mine\n\x1b[31m"))
    assert line.isprintable()


def test_without_shards_the_way_to_make_them_is_told(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="has no shards"):
        list(credit_lines(tmp_path / "raw"))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
PHOTO = st.fixed_dictionaries(
    {"owner": TEXT, "url": TEXT},
    optional=dict.fromkeys(("title", "licence", "page_url"), TEXT),
)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.lists(PHOTO, min_size=1, max_size=5))
@example([{"owner": "\x1b]0;a\x07", "url": "\u2066", "title": "\u2029", "licence": "\x85"}])
def test_there_is_one_printable_line_for_each_photograph(photos: list[dict[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = lines(Path(folder), *(row(**photo) for photo in photos))
    assert len(found) == len(photos)
    assert all(line.isprintable() for line in found)
    assert len("\n".join(found).splitlines()) == len(photos)
