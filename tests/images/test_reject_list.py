import csv
import io
from pathlib import Path

import pytest

from pipeline.core import csv_cells
from pipeline.core.errors import PipelineError
from pipeline.images import reject_list
from tests.builders.names import FORMULAS

ONE, TWO = "0123456789abcdef" * 4, "f" * 64


def read(folder: Path, text: str | bytes) -> dict[str, str]:
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "reject.csv").write_bytes(data)
    return reject_list.read(folder)


def test_ids_and_reasons_are_read(tmp_path: Path) -> None:
    reasons = read(tmp_path, f'id,why\n{ONE},blurred\n{TWO},"a drawing, not a photograph"\n')
    assert reasons == {ONE: "blurred", TWO: "a drawing, not a photograph"}


def test_no_file_rejects_nothing(tmp_path: Path) -> None:
    assert reject_list.read(tmp_path) == {}
    assert reject_list.read(tmp_path / "nowhere") == {}


def test_a_header_alone_rejects_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "id,why\n") == {}
    assert read(tmp_path, "id,why") == {}


@pytest.mark.parametrize("line", [f"{ONE},", ONE])
def test_a_reason_may_be_missing(tmp_path: Path, line: str) -> None:
    assert read(tmp_path, f"id,why\n{line}\n") == {ONE: ""}


@pytest.mark.parametrize(
    "text",
    [
        f"\ufeffid,why\n{ONE},x\n",
        f"id,why\r\n{ONE},x\r\n",
        f"id,why\n\n{ONE},x\n\n",
        f"id,why\n{ONE},x",
        f"id,why\n{ONE.upper()},x\n",
        f"id,why\n {ONE} ,x\n",
        f'"id","why"\n"{ONE}","x"\n',
    ],
    ids=["bom", "crlf", "empty lines", "no last newline", "upper case", "spaces", "quoted"],
)
def test_files_of_spreadsheets_and_editors_are_read(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == {ONE: "x"}


def test_reasons_may_be_in_any_language(tmp_path: Path) -> None:
    assert read(tmp_path, f"id,why\n{ONE},żółw\n") == {ONE: "żółw"}


@pytest.mark.parametrize(
    "text", [f"{ONE},blurred\n", "id\n", "why,id\n", "id,why,who\n", "ID,WHY\n", "id;why\n"]
)
def test_another_first_line_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(
        PipelineError, match=r"reject\.csv should start with the line id,why and have"
    ):
        read(tmp_path, text)


@pytest.mark.parametrize("why", FORMULAS)
def test_no_reason_is_a_formula_and_the_reader_gets_it(tmp_path: Path, why: str) -> None:
    text = reject_list.lines([(ONE, why)])
    (_, (key, cell)) = csv.reader(io.StringIO(text, newline=""))
    assert (key, cell) == (ONE, csv_cells.escape(why))
    assert read(tmp_path, text) == {ONE: why}


def test_an_empty_file_rejects_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "") == {}


@pytest.mark.parametrize("key", ["", "cat/1.png", ONE[:-1], ONE + "0", "g" + ONE[1:]])
def test_the_error_for_a_bad_id_names_its_line(tmp_path: Path, key: str) -> None:
    with pytest.raises(
        PipelineError, match=r"reject\.csv, line 3: .* is not an image id"
    ) as caught:
        read(tmp_path, f"id,why\n{ONE},x\n{key},x\n")
    assert repr(key) in str(caught.value)


@pytest.mark.parametrize("data", [b"id,why\n\xff\xfe,x\n", b'id,why\n"unclosed', b"\xff\xfe\x00"])
def test_a_file_that_is_not_csv_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(PipelineError, match=r"reject\.csv is not (a CSV file|in UTF-8): "):
        read(tmp_path, data)
