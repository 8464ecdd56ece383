"""history.csv: a row per validation."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from pipeline.core import atomic


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


def best(history: Sequence[Record]) -> Record:
    """The first validation with the lowest loss; the model has its weights."""
    return min(history, key=lambda record: record.val_loss)


def write(path: Path, history: Sequence[Record]) -> None:
    """Write history.csv."""
    header = [field.name for field in fields(Record)]
    atomic.write_csv(path, header, [astuple(record) for record in history])


def read(path: Path) -> list[dict[str, float]]:
    """Read history.csv: the numbers of each validation by name."""
    return [{name: float(value) for name, value in row.items()} for row in atomic.read_csv(path)]
