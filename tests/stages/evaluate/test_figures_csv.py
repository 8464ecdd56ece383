from pathlib import Path

import pytest

from pipeline.core.errors import PipelineError
from pipeline.stages.evaluate import figures_csv
from pipeline.stages.evaluate.metrics import (
    CalibrationFigures,
    ClassFigures,
    ResultFigures,
    SliceFigures,
)
from tests.builders.names import DECEPTIVE, FORMULAS

FIGURES = ResultFigures(
    {"accuracy": 0.5},
    [
        ClassFigures("ant, or not", 3, 1, 2, 0.5, 1 / 3, 0.4, 0.1 + 0.2, 1e-05),
        ClassFigures("1", 0, 0, 0, None, None, None, None, None),
    ],
    [SliceFigures("folder a;b", 2, 1, 0.5)],
    CalibrationFigures("as trained", 1.0, 708.4, 0.25),
    CalibrationFigures("calibrated", 1.7, 0.3, 0.0),
)


def test_the_bytes_of_the_files(tmp_path: Path) -> None:
    figures_csv.write_figures(tmp_path, FIGURES)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "classes.csv": "label,n,correct,predicted,precision,recall,f1,roc_auc,average_precision\n"
        '"ant, or not",3,1,2,0.5,0.3333333333333333,0.4,0.30000000000000004,1e-05\n'
        "1,0,0,0,,,,,\n",
        "slices.csv": "slice,n,correct,accuracy\nfolder a;b,2,1,0.5\n",
        "calibration.csv": "probabilities,temperature,loss,ece\n"
        "as trained,1.0,708.4,0.25\ncalibrated,1.7,0.3,0.0\n",
    }
    assert figures_csv.read_figures(tmp_path, {"accuracy": 0.5}) == FIGURES


# The last one is not valid Unicode, which names of classes are.
@pytest.mark.parametrize("name", [*FORMULAS, *DECEPTIVE[:-1]])
def test_names_of_strangers_read_back_as_they_were_written(tmp_path: Path, name: str) -> None:
    row = ClassFigures(name, 1, 1, 1, 1.0, 1.0, 1.0, None, None)
    part = SliceFigures(f"folder {name}", 1, 1, 1.0)
    figures = ResultFigures({}, [row], [part], FIGURES.as_trained, FIGURES.calibrated)
    figures_csv.write_figures(tmp_path, figures)
    assert figures_csv.read_figures(tmp_path, {}) == figures
    assert figures_csv.parse_labels((tmp_path / "classes.csv").read_bytes().decode()) == [name]


def test_a_result_of_an_older_version_has_no_such_files(tmp_path: Path) -> None:
    assert figures_csv.read_figures(tmp_path, {"accuracy": 0.5, "recall.ant": 1.0}) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.csv", "label\nant\n"),
        (
            "classes.csv",
            "label,n,correct,predicted,precision,recall,f1,roc_auc,average_precision\n1",
        ),
        ("slices.csv", "slice,n,correct,accuracy\na,1,1,nan\n"),
        ("slices.csv", None),
        ("calibration.csv", "probabilities,temperature,loss,ece\ncalibrated,1,1,1\n"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, text: str | None) -> None:
    figures_csv.write_figures(tmp_path, FIGURES)
    (tmp_path / name).unlink()
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(PipelineError, match=f"{name} is missing or damaged"):
        figures_csv.read_figures(tmp_path, {})
