"""The files of a training."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrainingInputs:
    """Paths of what the stage reads."""

    clean: Path
    split_csv: Path
    features: Path


@dataclass(frozen=True)
class TrainingOutputs:
    """Paths of what the stage writes."""

    models: Path
    history_csv: Path
    augmented: Path
