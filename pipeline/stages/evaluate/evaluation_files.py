"""The files of an evaluation."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EvaluationInputs:
    """Paths of what the stage reads."""

    models: Path
    features: Path
    clean: Path
    split_csv: Path
    history_csv: Path


@dataclass(frozen=True)
class EvaluationOutputs:
    """Paths of what the stage writes."""

    metrics_json: Path
    test: Path
    report_html: Path
