"""A model with its test result, as the report and the record in MLflow describe it."""

from dataclasses import dataclass

from pipeline.network.examples import Examples
from pipeline.network.model_folder import Card
from pipeline.params import Params
from pipeline.stages.evaluate.intervals import Groups
from pipeline.stages.evaluate.metrics import ResultFigures, Selected
from pipeline.stages.evaluate.test_set import TestSetResult


@dataclass(frozen=True)
class EvaluatedModel:
    """A model, the images it was trained and tested on, and its test result."""

    params: Params
    card: Card
    examples: Examples
    result: TestSetResult
    groups: Groups
    """(N,) Shared by test images that are not independent."""
    figures: ResultFigures
    is_leaked: Selected
    """(N,) Whether images of its group were trained or validated on."""
