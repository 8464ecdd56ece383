import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.commands.review.decisions import Decisions, LineCounts, append, append_rows
from pipeline.core.errors import PipelineError
from pipeline.images import hand_lists

ONE, TWO = "0123456789abcdef" * 4, "f" * 64
CONTENTS = {
    "nothing": b"",
    "a byte order mark": b"\xef\xbb\xbf",
    "a header": b"id,why\n",
    "a header without a line end": b"id,why",
    "a row": b"id,why\n" + TWO.encode() + b",mine\n",
    "a row without a line end": b"id,why\n" + TWO.encode() + b",mine",
    "a spreadsheet's line ends": b"\xef\xbb\xbfid,why\r\n" + TWO.encode() + b",mine\r\n",
    "empty lines": b"\n\r\n\n",
    "empty lines after a byte order mark": b"\xef\xbb\xbf\n",
    "an empty line before the header": b"\nid,why\n" + TWO.encode() + b",mine\n",
    "old line ends": b"id,why\r" + TWO.encode() + b",mine\r",
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_rows_are_appended_and_nothing_before_them_changes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "reject.csv"
    path.write_bytes(content)
    before = hand_lists.read_rejects(tmp_path)
    append_rows(path, [(ONE, "blurred, dark")])
    assert path.read_bytes().startswith(content)
    assert hand_lists.read_rejects(tmp_path) == before | {ONE: "blurred, dark"}


def test_the_first_rows_make_the_file(tmp_path: Path) -> None:
    append_rows(tmp_path / "relabel.csv", [(ONE, "cat", "x"), (TWO, "dog", "=1")])
    text = (tmp_path / "relabel.csv").read_text()
    assert text == f"id,label,why\n{ONE},cat,x\n{TWO},dog,'=1\n"


def test_no_decisions_make_no_file(root: Path) -> None:
    folder = root / "pets"
    folder.mkdir()
    assert append(folder, Decisions()) == LineCounts(0, 0)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "make room on the disk, and try again"),
        (errno.EDQUOT, "make room on the disk, and try again"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_failed_write_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    path, write = tmp_path / "reject.csv", os.write
    path.write_bytes(CONTENTS["a row"])

    def write_a_part(file: int, data: bytes) -> int:
        if path.stat().st_size > len(CONTENTS["a row"]):
            raise OSError(number, os.strerror(number))
        return write(file, data[:5])

    monkeypatch.setattr(os, "write", write_a_part)
    with pytest.raises(PipelineError) as caught:
        append_rows(path, [(ONE, "x")])
    assert str(caught.value) == f"{path} cannot be written: {advice}"
    assert path.read_bytes() == CONTENTS["a row"]


@settings(max_examples=50)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_text_reads_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("list")
    append_rows(folder / "reject.csv", [(ONE, text)])
    assert hand_lists.read_rejects(folder) == {ONE: text}


def test_what_the_files_have_is_not_appended_again(root: Path) -> None:
    decisions = Decisions({ONE: "dark"}, {TWO: ("cat", "a look")})
    assert append(root, decisions) == LineCounts(1, 1)
    before = [(root / name).read_bytes() for name in ("reject.csv", "relabel.csv")]
    assert append(root, decisions) == LineCounts(0, 0)
    assert [(root / name).read_bytes() for name in ("reject.csv", "relabel.csv")] == before


def test_a_change_of_mind_is_another_line(root: Path) -> None:
    append(root, Decisions(labels={ONE: ("cat", "")}))
    append(root, Decisions(labels={ONE: ("dog", "")}))
    assert (root / "relabel.csv").read_text() == f"id,label,why\n{ONE},cat,\n{ONE},dog,\n"
    assert hand_lists.read_corrections(root)[ONE].label == "dog"


def test_a_malformed_file_stops_both(root: Path) -> None:
    (root / "relabel.csv").write_text("id;label;why\n")
    with pytest.raises(PipelineError, match=r"relabel\.csv should start with"):
        append(root, Decisions({ONE: "dark"}, {TWO: ("cat", "")}))
    assert not (root / "reject.csv").exists()


def test_threads_that_append_lose_no_row(root: Path) -> None:
    keys = [f"{number:064x}" for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: append(root, Decisions({key: "x"}, {key: ("cat", "")})), keys))
    assert hand_lists.read_rejects(root) == dict.fromkeys(keys, "x")
    assert set(hand_lists.read_corrections(root)) == set(keys)
    assert (root / "reject.csv").read_text().count("id,why") == 1
