"""predictions.csv as the tests read it."""

from pathlib import Path

from pipeline.stages.evaluate.predictions_csv import PredictionRow, parse_predictions


def read_predictions(path: Path) -> list[PredictionRow]:
    """The rows of a predictions.csv."""
    return parse_predictions(path.read_bytes().decode())
