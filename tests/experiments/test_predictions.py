from pathlib import Path

import pytest

from pipeline.core.errors import PipelineError
from pipeline.experiments.predictions import load_predictions
from tests.builders.models import scale_head


def test_a_model_without_finite_probabilities_is_not_compared(models: Path) -> None:
    predictions = load_predictions("models")
    assert len(predictions.images) > 0
    assert predictions.classes == {"plain", "striped"}
    for image in predictions.images.values():
        assert image.of_label == image.probabilities[image.label]
        assert image.predicted == next(iter(image.probabilities))
    scale_head(models, 3e38)
    with pytest.raises(PipelineError, match="model in models gives a probability that is not a"):
        load_predictions("models")
