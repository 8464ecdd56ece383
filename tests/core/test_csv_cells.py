"""No text in a CSV file is a formula to a spreadsheet, and our readers get it as it was."""

import io
import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.core import csv_cells
from tests import ROOT
from tests.builders.names import FORMULAS

DANGEROUS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212")
# Few characters, so that most texts are dangerous.
CHARACTERS = st.sampled_from("=+-@';\t\r\n \"\ufeff\u200b\uff1da1")
TEXTS = st.text(CHARACTERS, max_size=8) | st.text()


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_written_with_an_apostrophe_and_read_without(text: str) -> None:
    cell = csv_cells.escape(text)
    assert isinstance(cell, str)
    assert cell.startswith("'")
    assert csv_cells.unescape(cell) == text


@pytest.mark.parametrize(
    "text", ["", "cat", "cats/a-b=c@d+e.jpg", "'tis", "'", "it's", "a - b", "(-1)", "a' =b", "€-"]
)
def test_other_text_is_written_and_read_as_it_is(text: str) -> None:
    assert csv_cells.escape(text) == text
    assert csv_cells.unescape(text) == text


@pytest.mark.parametrize("number", [-0.5, -3, 1e-9, True, None])
def test_a_number_stays_a_number(number: object) -> None:
    assert csv_cells.escape(number) is number


def test_a_text_that_looks_like_a_number_is_text() -> None:
    assert csv_cells.escape("-0.5") == "'-0.5"


@settings(derandomize=True, max_examples=500)
@given(TEXTS)
@example("'\t'=x")
@example("a;'=b\n=c")
def test_any_text_comes_back_and_starts_no_formula(text: str) -> None:
    cell = csv_cells.escape(text)
    assert isinstance(cell, str)
    assert csv_cells.unescape(cell) == text
    assert not cell.startswith(DANGEROUS)
    assert not cell.lstrip(' \ufeff\u200b"').startswith(DANGEROUS)


@settings(derandomize=True, max_examples=300)
@given(st.lists(TEXTS, min_size=2, max_size=4))
@example(["a", 'a;=HYPERLINK("x")'])
def test_no_cell_is_a_formula_where_semicolons_separate(texts: list[str]) -> None:
    # As Excel reads a file with commas where its list separator is the semicolon.
    file = io.StringIO()
    csv_cells.write_rows(file, [texts])
    for line in file.getvalue().splitlines():
        for cell in line.split(";"):
            assert not cell.lstrip(' \ufeff\u200b"').startswith(DANGEROUS[:4])


@given(st.text(st.characters(exclude_characters="'")))
def test_text_without_an_apostrophe_is_read_from_a_users_own_file(text: str) -> None:
    assert csv_cells.unescape(text) == text


@pytest.mark.parametrize("text", ["\x1c", "\t", ";", "'", " ;", "\n'", " "])
def test_long_text_takes_no_longer_than_its_length(text: str) -> None:
    start = time.process_time()
    csv_cells.unescape(str(csv_cells.escape(text * 100_000)))
    assert time.process_time() - start < 2  # seconds; 0.02 here, minutes if it were quadratic


def test_a_reader_restores_header_and_cells_of_short_and_long_rows() -> None:
    reader = csv_cells.DictReader(io.StringIO("id,'=x\n'-1,'@a\n'tis\n1,2,3\n"))
    assert list(reader) == [
        {"id": "-1", "=x": "@a"},
        {"id": "'tis", "=x": None},
        {"id": "1", "=x": "2", None: ["3"]},
    ]


def test_no_other_module_reads_or_writes_csv() -> None:
    """A table that another module writes could hold a formula."""
    modules = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob("pipeline/**/*.py")
        if re.search(r"\bcsv\.(writer|DictWriter|reader|DictReader)\b|to_csv", path.read_text())
    }
    assert modules == {
        "pipeline/core/csv_cells.py",
        # These read in the order of a header, and restore the cells themselves.
        "pipeline/core/csv_table.py",
        "pipeline/stages/acquire/layouts/table_files.py",
        # It stands alone, and only reads.
        "pipeline/commands/export/check_split.py",
    }
