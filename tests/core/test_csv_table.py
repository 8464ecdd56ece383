"""The tables under data/: columns, bytes, and the errors for damaged ones."""

import csv
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core import csv_cells, csv_table, split_csv, verdicts_csv
from pipeline.core.errors import REPAIR, PipelineError
from pipeline.core.split_csv import LeakRow, SplitRow
from pipeline.core.verdicts_csv import VerdictRow
from tests.builders.names import FORMULAS
from tests.builders.verdicts import read_verdicts

STRANGE = 'a,"b"\nc é'
VERDICT = VerdictRow(
    "a", STRANGE, "cat", "", "reject", "blank", "rotated first_frame_only", "a", "dog"
)
TABLES = {
    "split.csv": (
        split_csv.write_split,
        split_csv.read_split,
        [SplitRow("a", "cat", "val", ""), SplitRow("b", STRANGE, "train", "ann")],
        'id,label,split,group\na,cat,val,\nb,"a,""b""\nc é",train,ann\n',
    ),
    "verdicts.csv": (
        verdicts_csv.write_verdicts,
        read_verdicts,
        [VERDICT],
        "id,name,label,split,verdict,reason,warnings,near_group,source_label\n"
        'a,"a,""b""\nc é",cat,,reject,blank,rotated first_frame_only,a,dog\n',
    ),
    "leaks.csv": (
        split_csv.write_leaks,
        split_csv.read_leaks,
        [LeakRow("a", "a.png", "cat", "train", "duplicate", "b", "b.png", "test")],
        "id,name,label,split,kind,stays_id,stays_name,stays_split\n"
        "a,a.png,cat,train,duplicate,b,b.png,test\n",
    ),
}


@pytest.mark.parametrize(("write", "read", "rows", "text"), TABLES.values(), ids=TABLES)
def test_a_table_has_these_bytes_and_reads_back(
    tmp_path: Path,
    write: Callable[[Path, Any], None],
    read: Callable[[Path], Any],
    rows: list[Any],
    text: str,
) -> None:
    path = tmp_path / "table.csv"
    write(path, rows)
    assert path.read_bytes() == text.encode()
    assert list(read(path)) == rows


@pytest.mark.parametrize("text", FORMULAS)
@pytest.mark.parametrize(("write", "read", "rows", "_"), TABLES.values(), ids=TABLES)
def test_no_table_has_a_formula_and_its_reader_gets_the_text(
    tmp_path: Path,
    write: Callable[[Path, Any], None],
    read: Callable[[Path], Any],
    rows: list[Any],
    _: str,
    text: str,
) -> None:
    path = tmp_path / "table.csv"
    strange = replace(rows[-1], **{field.name: text for field in fields(rows[-1])})
    write(path, [strange])
    with path.open(encoding="utf-8", newline="") as file:
        cells = list(csv.reader(file))[1]
    assert cells == [csv_cells.escape(text)] * len(cells)
    assert list(read(path)) == [strange]


def test_a_table_that_was_written_without_escapes_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y\n=1,-2\n'tis,@a\n")
    assert list(csv_table.read(tmp_path / "t.csv", Pair)) == [Pair("=1", "-2"), Pair("'tis", "@a")]


def test_split_csv_is_written_in_the_order_of_ids(tmp_path: Path) -> None:
    rows = [SplitRow(key, "cat", "train", "") for key in "abc"]
    split_csv.write_split(tmp_path / "split.csv", rows)
    assert list(split_csv.read_split(tmp_path / "split.csv")) == rows
    with pytest.raises(AssertionError, match="not sorted by id"):
        split_csv.write_split(tmp_path / "split.csv", rows[::-1])


@pytest.mark.parametrize(("verdict", "expected"), [("keep", True), ("reject", False)])
def test_a_verdict_keeps_or_rejects(verdict: str, expected: bool) -> None:
    assert VerdictRow("a", "a.png", "cat", "", verdict, "", "", "").is_kept == expected


@dataclass(frozen=True, slots=True)
class Pair:
    x: str
    y: str


@settings(derandomize=True, max_examples=100)
@given(st.lists(st.builds(Pair, st.text(), st.text())))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, pairs: list[Pair]) -> None:
    path = tmp_path_factory.mktemp("table") / "table.csv"
    csv_table.write(path, Pair, pairs)
    assert list(csv_table.read(path, Pair)) == pairs


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("y,x\n2,1\n", [("1", "2")]),
        ("x,new,y\n1,,2\n", [("1", "2")]),
        ("x,y\n1,2,3\n", [("1", "2")]),
        ("x,y\n\n1,2\n\n", [("1", "2")]),
        ("x,y\r\n1,2\r\n", [("1", "2")]),
        ("x,y\n", []),
    ],
    ids=["other order", "more columns", "long row", "empty lines", "of Windows", "no rows"],
)
def test_tables_that_differ_in_form_are_read(
    tmp_path: Path, text: str, cells: list[tuple[str, str]]
) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode())
    assert [astuple(row) for row in csv_table.read(tmp_path / "t.csv", Pair)] == cells


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it has no column 'x'"),
        (b"x\n1\n", "it has no column 'y'"),
        (b"x,y\n1,2\n3\n", "line 3 is cut off"),
        (b"x,y\n1,\xff\n", "it is not UTF-8"),
        (b"\xff\xfex\x00,\x00y\x00", "it is not UTF-8"),
        (b"x,y\n1," + b"2" * 200_000, "field larger than field limit (131072)"),
    ],
    ids=["empty", "missing column", "torn", "Latin-1", "UTF-16", "huge cell"],
)
def test_a_damaged_table_is_one_sentence(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(PipelineError) as caught:
        csv_table.read(path, Pair)
    assert str(caught.value) == f"{path} is damaged, or of another version ({reason}): {REPAIR}"


def test_a_missing_table_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        csv_table.read(tmp_path / "none.csv", Pair)
