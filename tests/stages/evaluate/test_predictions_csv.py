import csv
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import csv_cells
from pipeline.stages.evaluate import predictions_csv
from pipeline.stages.evaluate.predictions_csv import TOP_CLASSES, PredictionRow
from tests.builders.names import FORMULAS
from tests.builders.predictions import read_predictions

ROW = PredictionRow("1f", "ant", "bee, or wasp", "", 0.1, {"bee, or wasp": 0.9, "ant": 0.1})
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"))


def test_the_bytes_of_the_file(tmp_path: Path) -> None:
    predictions_csv.write_predictions(tmp_path / "p.csv", [ROW], 2)
    assert (tmp_path / "p.csv").read_bytes() == (
        b"id,label,predicted,group,p_label,class_1,p_1,class_2,p_2\n"
        b'1f,ant,"bee, or wasp",,0.1,"bee, or wasp",0.9,ant,0.1\n'
    )


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS.filter(bool), st.floats(0, 1))))
def test_predictions_read_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[str, str, str, float]]
) -> None:
    rows = [
        PredictionRow(f"id {key}", name, name, group, share, {name: share, f"{name}.": 1 - share})
        for key, group, name, share in values
    ]
    path = tmp_path_factory.mktemp("predictions") / "p.csv"
    predictions_csv.write_predictions(path, rows, 3)
    assert read_predictions(path) == rows


@pytest.mark.parametrize("name", [*FORMULAS, "1", "p.ant", "class_1"])
def test_no_class_is_a_formula_and_its_probabilities_are_found(tmp_path: Path, name: str) -> None:
    row = PredictionRow("1f", name, name, name, 1e-05, {name: 1e-05, f"a;{name}": 0.5})
    predictions_csv.write_predictions(tmp_path / "p.csv", [row], 2)
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        _, cells = csv.reader(file)
    escaped = [csv_cells.escape(text) for text in (name, f"a;{name}")]
    assert cells == ["1f", *[escaped[0]] * 3, "1e-05", escaped[0], "1e-05", escaped[1], "0.5"]
    assert read_predictions(tmp_path / "p.csv") == [row]


@pytest.mark.parametrize("count", [TOP_CLASSES - 1, TOP_CLASSES])
def test_a_full_row_may_lack_classes(tmp_path: Path, count: int) -> None:
    probabilities = {f"c{number}": 0.01 for number in range(count)}
    row = PredictionRow("1f", "c0", "c0", "", 0.01, probabilities)
    predictions_csv.write_predictions(tmp_path / "p.csv", [row], TOP_CLASSES)
    (read,) = read_predictions(tmp_path / "p.csv")
    assert read.probabilities == probabilities
    assert read.may_lack_classes == (count == TOP_CLASSES)


def test_only_the_most_probable_classes_are_written_as_the_rows_come(tmp_path: Path) -> None:
    predictions_csv.write_predictions(tmp_path / "p.csv", iter([ROW]), 1)
    (row,) = read_predictions(tmp_path / "p.csv")
    assert (row.of_label, row.probabilities) == (0.1, {"bee, or wasp": 0.9})


OLD = 'id,label,predicted,group,p.ant,"p.bee, or wasp"\n1f,ant,"bee, or wasp",,0.1,0.9\n'


def test_a_file_of_an_older_version_has_a_column_per_class() -> None:
    (row,) = predictions_csv.parse_predictions(OLD)
    assert row == PredictionRow("1f", "ant", "bee, or wasp", "", 0.1, ROW.probabilities)
    header = ",".join(f"p.c{number}" for number in range(2 * TOP_CLASSES))
    cells = ",".join(["0.025"] * 2 * TOP_CLASSES)
    (row,) = predictions_csv.parse_predictions(f"id,label,predicted,{header}\n1,c39,c0,{cells}\n")
    assert len(row.probabilities) == 2 * TOP_CLASSES
    assert not row.may_lack_classes


@pytest.mark.parametrize("name", FORMULAS)
def test_an_older_class_that_is_a_formula_is_found(name: str) -> None:
    header = csv_cells.escape(f"p.{name}")
    text = f'id,label,predicted,group,"{header}"\n1f,"{csv_cells.escape(name)}",x,,0.5\n'
    if '"' in name:
        text = text.replace(name, name.replace('"', '""'))
    (row,) = predictions_csv.parse_predictions(text)
    assert row.of_label == row.probabilities[name] == 0.5


def test_a_file_from_elsewhere_may_lack_groups_and_have_more_columns() -> None:
    (row,) = predictions_csv.parse_predictions(
        "note,id,label,predicted,p.ant,p.bee\nx,1,ant,bee,0.4,?\n"
    )
    assert (row.id, row.label, row.predicted, row.group) == ("1", "ant", "bee", "")
    assert row.of_label == row.probabilities["ant"] == 0.4
    assert math.isnan(row.probabilities["bee"])


@pytest.mark.parametrize("text", ["id,label,p.ant\n1,ant,1\n", "id,predicted\n1,ant\n"])
def test_a_missing_column_is_an_error(text: str) -> None:
    with pytest.raises(KeyError):
        predictions_csv.parse_predictions(text)


def test_a_short_row_has_no_numbers_and_a_long_one_no_more_than_the_header() -> None:
    short, long = predictions_csv.parse_predictions(
        "id,label,predicted,p.ant\n1\n2,ant,ant,1,5,6\n"
    )
    assert math.isnan(short.probabilities["ant"])
    assert long.probabilities == {"ant": 1.0}
    short, long = predictions_csv.parse_predictions(
        "id,label,predicted,p_label,class_1,p_1\n1\n2,ant,ant,1,ant,1,5,6\n"
    )
    assert math.isnan(short.of_label)
    assert (short.probabilities, long.probabilities) == ({}, {"ant": 1.0})


def test_a_cell_too_long_for_csv_is_an_error() -> None:
    with pytest.raises(csv.Error):
        predictions_csv.parse_predictions("id,label,predicted\n1,ant," + "x" * 200_000)
