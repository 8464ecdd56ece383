"""history.csv: a row per validation."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from pipeline.core import atomic
from pipeline.core.errors import REPAIR, PipelineError


@dataclass(frozen=True)
class Record:
    """One validation. Losses are in nats, accuracies in [0, 1]."""

    step: int
    """Steps of the optimizer so far."""
    epoch: float
    """Passes over the training images so far."""
    lr: float
    """The head's learning rate in the last step."""
    train_loss: float
    """Mean loss of the steps since the last validation, with class weights and smoothing."""
    train_accuracy: float
    """Over the same steps, with the weights that each step had."""
    val_loss: float
    """Mean cross entropy, without weights or smoothing."""
    val_accuracy: float

    @property
    def losses(self) -> tuple[float, float]:
        """Of training and of validation, as the two that a chart compares."""
        return self.train_loss, self.val_loss

    @property
    def accuracies(self) -> tuple[float, float]:
        """Of training and of validation, as the two that a chart compares."""
        return self.train_accuracy, self.val_accuracy


def best(history: Sequence[Record]) -> Record:
    """The first validation with the lowest loss; the model has its weights."""
    return min(history, key=lambda record: record.val_loss)


def write(path: Path, history: Sequence[Record]) -> None:
    """Write history.csv."""
    header = [field.name for field in fields(Record)]
    atomic.write_csv(path, header, [astuple(record) for record in history])


def read(path: Path) -> list[Record]:
    """Read history.csv.

    Raises:
        PipelineError: a column is missing, or a cell is not a finite number.
    """
    try:
        records = [_record(cells) for cells in atomic.read_csv(path)]
    except (KeyError, ValueError, csv.Error) as error:
        raise PipelineError(
            f"{path} is damaged, or of another version ({error}): {REPAIR}"
        ) from error
    if not all(math.isfinite(value) for record in records for value in astuple(record)):
        raise PipelineError(f"{path} has a value that is not a finite number: {REPAIR}")
    return records


def _record(cells: Mapping[str, str]) -> Record:
    return Record(
        step=int(cells["step"]),
        epoch=float(cells["epoch"]),
        lr=float(cells["lr"]),
        train_loss=float(cells["train_loss"]),
        train_accuracy=float(cells["train_accuracy"]),
        val_loss=float(cells["val_loss"]),
        val_accuracy=float(cells["val_accuracy"]),
    )
