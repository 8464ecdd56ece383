import csv
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import csv_cells
from pipeline.stages.evaluate import predictions_csv
from pipeline.stages.evaluate.predictions_csv import PredictionRow
from tests.builders.names import FORMULAS

CLASSES = ["ant", "bee, or wasp"]
ROW = PredictionRow("1f", "ant", "bee, or wasp", "", {"ant": 0.1, "bee, or wasp": 0.9})
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"))


def test_the_bytes_of_the_file(tmp_path: Path) -> None:
    predictions_csv.write_predictions(tmp_path / "p.csv", CLASSES, [ROW])
    assert (tmp_path / "p.csv").read_bytes() == (
        b'id,label,predicted,group,p.ant,"p.bee, or wasp"\n1f,ant,"bee, or wasp",,0.1,0.9\n'
    )


@given(st.lists(st.tuples(TEXTS, TEXTS, st.floats(0, 1))))
def test_predictions_read_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[str, str, float]]
) -> None:
    rows = [
        PredictionRow(f"id {key}", "ant", "ant", group, {"ant": share, "bee, or wasp": 1 - share})
        for key, group, share in values
    ]
    path = tmp_path_factory.mktemp("predictions") / "p.csv"
    predictions_csv.write_predictions(path, CLASSES, rows)
    assert predictions_csv.read_predictions(path) == rows


@pytest.mark.parametrize("name", FORMULAS)
def test_no_class_is_a_formula_and_its_probabilities_are_found(tmp_path: Path, name: str) -> None:
    row = PredictionRow("1f", name, name, name, {name: 1e-05, f"a;{name}": 0.5})
    predictions_csv.write_predictions(tmp_path / "p.csv", list(row.probabilities), [row])
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        _, cells = csv.reader(file)
    assert cells == ["1f", *[csv_cells.escape(name)] * 3, "1e-05", "0.5"]
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        assert predictions_csv.parse_predictions(file.read()) == [row]


def test_a_file_from_elsewhere_may_lack_groups_and_have_more_columns() -> None:
    (row,) = predictions_csv.parse_predictions(
        "note,id,label,predicted,p.ant,p.bee\nx,1,ant,bee,0.4,?\n"
    )
    assert (row.id, row.label, row.predicted, row.group) == ("1", "ant", "bee", "")
    assert row.probabilities["ant"] == 0.4
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


def test_a_cell_too_long_for_csv_is_an_error() -> None:
    with pytest.raises(csv.Error):
        predictions_csv.parse_predictions("id,label,predicted\n1,ant," + "x" * 200_000)
