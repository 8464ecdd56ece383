import csv
import io
from pathlib import Path

import pytest

from pipeline.core import csv_cells
from pipeline.core.errors import PipelineError
from pipeline.images import hand_lists
from pipeline.images.hand_lists import Correction
from tests.builders.names import FORMULAS

ONE, TWO = "0123456789abcdef" * 4, "f" * 64


def read(folder: Path, text: str | bytes) -> dict[str, str]:
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "reject.csv").write_bytes(data)
    return hand_lists.read_rejects(folder)


def test_ids_and_reasons_are_read(tmp_path: Path) -> None:
    reasons = read(tmp_path, f'id,why\n{ONE},blurred\n{TWO},"a drawing, not a photograph"\n')
    assert reasons == {ONE: "blurred", TWO: "a drawing, not a photograph"}


def test_no_file_rejects_nothing(tmp_path: Path) -> None:
    assert hand_lists.read_rejects(tmp_path) == {}
    assert hand_lists.read_rejects(tmp_path / "nowhere") == {}


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
        f"\n\r\nid,why\n{ONE},x\n",
        f"\ufeff\nid,why\n{ONE},x\n",
        f"id,why\n{ONE},x",
        f"id,why\n{ONE.upper()},x\n",
        f"id,why\n {ONE} ,x\n",
        f'"id","why"\n"{ONE}","x"\n',
    ],
    ids=[
        "bom",
        "crlf",
        "empty lines",
        "empty first lines",
        "bom and empty line",
        "no last newline",
        "upper case",
        "spaces",
        "quoted",
    ],
)
def test_files_of_spreadsheets_and_editors_are_read(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == {ONE: "x"}


def test_reasons_may_be_in_any_language(tmp_path: Path) -> None:
    assert read(tmp_path, f"id,why\n{ONE},żółw\n") == {ONE: "żółw"}


@pytest.mark.parametrize(
    "text",
    [
        f"{ONE},blurred\n",
        " \nid,why\n",
        '""\n',
        ",\n",
        "id\n",
        "why,id\n",
        "id,why,who\n",
        "ID,WHY\n",
        "id;why\n",
    ],
)
def test_another_first_line_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(
        PipelineError, match=r"reject\.csv should start with the line id,why and have"
    ):
        read(tmp_path, text)


@pytest.mark.parametrize("why", FORMULAS)
def test_no_reason_is_a_formula_and_the_reader_gets_it(tmp_path: Path, why: str) -> None:
    text = hand_lists.format_rejects([(ONE, why)])
    (_, (key, cell)) = csv.reader(io.StringIO(text, newline=""))
    assert (key, cell) == (ONE, csv_cells.escape(why))
    assert read(tmp_path, text) == {ONE: why}


def test_an_empty_file_rejects_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "") == {}


@pytest.mark.parametrize("text", ["\n", "\r\n\r\n", "\ufeff\n"])
def test_empty_lines_alone_reject_nothing(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == {}


def test_empty_first_lines_count_in_errors(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"reject\.csv, line 3: 'x' is not an image id"):
        read(tmp_path, "\nid,why\nx,y\n")


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


# ---- relabel.csv ----


def corrections_of(folder: Path, text: str) -> dict[str, Correction]:
    (folder / "relabel.csv").write_text(text, encoding="utf-8")
    return hand_lists.read_corrections(folder)


def test_labels_are_read_with_their_lines(tmp_path: Path) -> None:
    corrections = corrections_of(
        tmp_path, f"id,label,why\n{ONE},cat,looks like one\n\n{TWO},big dog\n"
    )
    assert corrections == {ONE: Correction("cat", 2), TWO: Correction("big dog", 4)}


def test_no_relabel_list_relabels_nothing(tmp_path: Path) -> None:
    assert hand_lists.read_corrections(tmp_path) == {}


def test_the_last_line_of_an_image_counts(tmp_path: Path) -> None:
    text = f"id,label,why\n{ONE},cat,\n{TWO},cat,\n{ONE},dog,a second look\n"
    assert corrections_of(tmp_path, text)[ONE] == Correction("dog", 4)


def test_labels_are_composed_as_the_names_of_classes_are(tmp_path: Path) -> None:
    corrections = corrections_of(tmp_path, f"id,label,why\n{ONE},cafe\u0301,\n")
    assert corrections[ONE].label == "caf\xe9"


def test_another_first_line_of_the_relabel_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        PipelineError, match=r"relabel\.csv should start with the line id,label,why"
    ):
        corrections_of(tmp_path, f"id,label\n{ONE},cat\n")


@pytest.mark.parametrize(
    ("label", "advice"),
    [
        ("dgo", "did you mean 'dog'"),
        ("", "the classes are cat, dog"),
        ("zebra", "the classes are cat, dog"),
    ],
)
def test_a_label_that_is_no_class_is_one_sentence(tmp_path: Path, label: str, advice: str) -> None:
    corrections = corrections_of(tmp_path, f"id,label,why\n{TWO},cat,\n{ONE},{label},\n")
    with pytest.raises(PipelineError) as caught:
        hand_lists.check_labels(tmp_path, corrections, {"dog", "cat"})
    path = tmp_path / "relabel.csv"
    assert str(caught.value) == (
        f"{path}, line 3: {label!r} is not a class of the data set: {advice}"
    )


def test_labels_that_are_classes_pass(tmp_path: Path) -> None:
    corrections = corrections_of(tmp_path, f"id,label,why\n{ONE},cat,\n")
    hand_lists.check_labels(tmp_path, corrections, ["cat", "dog"])
