from pathlib import Path

import pytest

from pipeline.core import atomic
from pipeline.core import history as records
from pipeline.core.errors import PipelineError
from pipeline.core.history import Record


def record(step: int, loss: float) -> Record:
    return Record(step, step / 10, 0.1, 0.1 + 0.2, 0.5, loss, 1 / 3)


def test_the_best_is_the_first_with_the_lowest_loss() -> None:
    history = [record(1, 3.0), record(2, 1.0), record(3, 2.0), record(4, 1.0)]
    assert records.best(history) == history[1]


def test_the_table_has_every_figure_in_full(tmp_path: Path) -> None:
    history = [record(5, 3.0), record(10, 1e-9)]
    records.write(tmp_path / "history.csv", history)
    rows = atomic.read_csv(tmp_path / "history.csv")
    assert [float(row["val_loss"]) for row in rows] == [3.0, 1e-9]
    assert float(rows[0]["train_loss"]) == 0.1 + 0.2
    assert list(rows[0]) == [
        "step",
        "epoch",
        "lr",
        "train_loss",
        "train_accuracy",
        "val_loss",
        "val_accuracy",
    ]
    assert b"\r" not in (tmp_path / "history.csv").read_bytes()


@pytest.mark.parametrize(
    ("cell", "why"),
    [("nan", "not a finite number"), ("inf", "not a finite"), ("", "damaged"), ("low", "damaged")],
)
def test_a_cell_that_is_no_finite_number_is_a_sentence(tmp_path: Path, cell: str, why: str) -> None:
    path = tmp_path / "history.csv"
    records.write(path, [record(5, 3.0), record(10, 0.125)])
    assert records.read(path) == [record(5, 3.0), record(10, 0.125)]
    text = path.read_text()
    path.write_text(text.replace("0.125", cell))
    with pytest.raises(PipelineError, match=why):
        records.read(path)
    path.write_text(text.replace("val_loss", "loss"))
    with pytest.raises(PipelineError, match="val_loss"):
        records.read(path)


@pytest.mark.parametrize(
    "row", ["5", "5,0.5,0.1,0.3,0.5,3.0", "0.5,0.5,0.1,0.3,0.5,3.0,0.9"], ids=str
)
def test_a_row_that_is_cut_off_or_has_half_a_step_is_damaged(tmp_path: Path, row: str) -> None:
    path = tmp_path / "history.csv"
    records.write(path, [record(5, 3.0)])
    header = path.read_text().splitlines()[0]
    path.write_text(f"{header}\n{row}\n")
    with pytest.raises(PipelineError, match=r"history\.csv is damaged"):
        records.read(path)
