"""Files of a restored result are validated: anybody may have written them."""

import json
from pathlib import Path

import pytest

from pipeline.core import dvc_lock
from pipeline.core.errors import PipelineError
from pipeline.experiments import dvc, dvc_results, restore
from pipeline.stages.evaluate import figures_csv
from pipeline.stages.evaluate.metrics import (
    CalibrationFigures,
    ClassFigures,
    ResultFigures,
    SliceFigures,
)
from tests.builders.repositories import CommitResult

HEADER = "step,epoch,lr,train_loss,train_accuracy,val_loss,val_accuracy"


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "null",
        '{"accuracy": null, "correct": 1, "n": 2}',
        '{"accuracy": 1, "n": 2}',
        "x",
        '{"accuracy": NaN, "correct": 1, "n": 2}',
        '{"accuracy": 0.5, "correct": 1, "n": Infinity}',
    ],
)
def test_metrics_without_the_required_ones_are_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/metrics.json").write_text(text)
    with pytest.raises(ValueError, match=r"no metrics|Expecting value|not an object"):
        restore._read_figures(tmp_path)


def test_only_numbers_are_metrics(tmp_path: Path) -> None:
    text = '{"accuracy": 0.5, "correct": 1, "n": 2, "ece": null, "odd": "text", "deep": {}}'
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/metrics.json").write_text(text)
    expected = {"accuracy": 0.5, "correct": 1, "n": 2, "ece": None}
    assert restore._read_figures(tmp_path) == expected


def test_figures_of_classes_and_slices_are_read_beside_metrics_json(tmp_path: Path) -> None:
    """Older versions have them in metrics.json itself, as in the test above."""
    (tmp_path / "reports/test").mkdir(parents=True)
    summary = {"accuracy": 0.5, "correct": 1, "n": 2}
    (tmp_path / "reports/metrics.json").write_text(json.dumps(summary))
    figures = ResultFigures(
        summary,
        [
            ClassFigures("ant", 2, 1, 1, 1.0, 0.5, 2 / 3, None, None),
            ClassFigures("bee", 1, 1, 2, 0.5, 1.0, 2 / 3, None, None),
        ],
        [SliceFigures("enlarged", 1, 1, 1.0)],
        CalibrationFigures("as trained", 1.0, 0.7, 0.2),
        CalibrationFigures("calibrated", 1.5, 0.6, 0.1),
    )
    figures_csv.write_figures(tmp_path / "reports/test", figures)
    read = restore._read_figures(tmp_path)
    assert read == figures.flat()
    assert (read["recall.ant"], read["accuracy.slice.enlarged"]) == (0.5, 1.0)
    assert read["temperature"] == 1.5
    (tmp_path / "reports/test/classes.csv").write_text("label,n\nant,many\n")
    with pytest.raises(PipelineError, match=r"classes\.csv is missing or damaged"):
        restore._read_figures(tmp_path)


@pytest.mark.parametrize(
    "rows",
    ["", "1,nan,1,1,1,1,1", "1,1,1", "1,inf,1,1,1,1,1", "1,1,1,1,1,nan,1", "a,b,c,d,e,f,g"],
)
def test_a_history_without_epochs_is_damaged(tmp_path: Path, rows: str) -> None:
    (tmp_path / "history.csv").write_text(f"{HEADER}\n{rows}\n" if rows else f"{HEADER}\n")
    with pytest.raises((ValueError, PipelineError), match=r"no epochs|is damaged|not a finite"):
        restore._read_history(tmp_path / "history.csv")


def test_a_history_has_a_row_for_each_validation(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text(f"{HEADER}\n1,0.5,1,1,1,1,1\n2,1,1,1,1,1,1\n")
    records = restore._read_history(tmp_path / "history.csv")
    assert [record.epoch for record in records] == [0.5, 1.0]


def test_an_error_of_a_remote_is_one_sentence_without_its_password() -> None:
    class StorageError(Exception):
        pass

    with (
        pytest.raises(PipelineError) as caught,
        dvc.errors_as_sentences("nothing came", "try again"),
    ):
        raise StorageError("s3://me:se@cret@h/x?key=cret\n\x1b[2J refuses")
    assert str(caught.value) == "nothing came (s3://h/x \\x1b[2J refuses): try again"
    expected = pytest.raises(PipelineError, match=r"^nothing came \(StorageError\): try again$")
    with expected, dvc.errors_as_sentences("nothing came", "try again"):
        raise StorageError
    with pytest.raises(KeyboardInterrupt), dvc.errors_as_sentences("nothing came", "try again"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("path", ["models", "reports/test"])
def test_files_that_are_not_those_of_the_lock_are_damaged(
    commit: CommitResult, tmp_path: Path, path: str
) -> None:
    for name in ("models", "reports/test"):
        (tmp_path / "files" / name).mkdir(parents=True)
        (tmp_path / "files" / name / "file").write_text(name)
    models, test = (
        dvc_lock.digest(tmp_path / "files" / name) for name in ("models", "reports/test")
    )
    commit(models)
    (result,) = dvc_results.dvc_results()
    result.lock["evaluate"]["outs"][0]["md5"] = test
    restore._require_digests(result, tmp_path / "files")
    (tmp_path / "files" / path / "file").write_text("")
    with pytest.raises(ValueError, match=f"{path} is not as in dvc.lock"):
        restore._require_digests(result, tmp_path / "files")
