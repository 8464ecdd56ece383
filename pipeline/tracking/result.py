"""A result that MLflow records; without mlflow or torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core import dvc_lock
from pipeline.core.history import Record
from pipeline.tracking import provenance
from pipeline.tracking.run_names import training_name

if TYPE_CHECKING:
    from torch import nn


def load_trained_part(models: Path) -> "nn.Module":
    """The part of the network in a model folder that was trained."""
    from pipeline.network import halves  # with torch, which few results need

    return halves.load_trained_part(models)


@dataclass(frozen=True)
class TrainedResult:
    """A trained and tested model with everything that its run records."""

    params: Mapping[str, object]
    """By dotted name; another version of the package may have written them."""
    tags: Mapping[str, str]
    """Of its origin, with its fingerprint."""
    files: Mapping[str, str]
    """The texts of `provenance.FOLDER`, by name."""
    models: Path
    trained: Callable[[], "nn.Module"]
    """Returns the part of the network that was trained. Picklable; unpickling imports no torch."""
    history: Sequence[Record]
    augmented: Path
    """An image of augmented images; the file may be missing."""
    split_csv: Path
    metrics: Mapping[str, float | None]
    """The content of metrics.json, and figures of classes and slices by flat names."""
    test: Path
    """The folder of the test result."""
    report: str
    """HTML."""
    start_time: int | None = None
    """In ms since 1970; None for now."""

    @property
    def name(self) -> str:
        return training_name(self.tags)

    @property
    def dataset(self) -> str:
        return str(self.params[provenance.DATASET])

    @property
    def results(self) -> dict[str, str]:
        """The tags that a complete run has."""
        return {
            provenance.MODELS: dvc_lock.digest(self.models),
            provenance.TEST: dvc_lock.digest(self.test),
        }
