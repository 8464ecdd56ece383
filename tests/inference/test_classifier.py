import importlib.metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.images import decoding
from pipeline.inference.classifier import Classification, Classifier, Outputs
from pipeline.network import model_folder
from tests.builders.models import scale_head


def test_predictions_are_right_and_do_not_depend_on_the_batch(models: Path, dataset: Path) -> None:
    batch = shards.read(shards.paths(dataset / "clean")[0])
    encoded, labels = (batch.column(name).to_pylist() for name in ("bytes", "label"))
    classifier = Classifier(models)
    views = torch.stack([classifier.view(decoding.decode(data)) for data in encoded])
    together = torch.cat([classifier.probabilities(part) for part in torch.split(views, 16)])
    predicted = [classifier.classify(outputs, 1).label for outputs in Outputs(together).rows()]
    assert np.mean([name == label for name, label in zip(predicted, labels, strict=True)]) > 0.9
    alone = torch.cat([classifier.probabilities(view[None]) for view in views[:5]])
    assert torch.allclose(alone, together[:5], atol=1e-5)
    assert torch.allclose(together.sum(dim=1), torch.ones(len(views)))


def test_the_likeliest_come_first_and_are_no_more_than_there_are(models: Path) -> None:
    classifier = Classifier(models)
    classification = classifier.classify(Outputs(torch.tensor([[0.25, 0.75]])), 5)
    assert classification == Classification((("striped", 0.75), ("plain", 0.25)))
    assert (classification.label, classification.probability) == ("striped", 0.75)
    assert (Classification(problem="empty").label, Classification().probability) == (None, None)


def test_a_probability_that_is_no_number_is_a_problem(models: Path) -> None:
    scale_head(models, 3e38)
    classifier = Classifier(models)
    view = classifier.view(np.zeros((40, 40, 3), np.uint8))
    probabilities = classifier.probabilities(torch.stack([view, 255 - view]))
    assert probabilities.isnan().any(dim=1).all()
    for row in Outputs(probabilities).rows():
        assert classifier.classify(row, 2) == Classification(problem="not_a_number")
    assert classifier.classify(Outputs(torch.tensor([[0.5, torch.inf]])), 1).label is None


def test_an_engine_that_is_missing_is_a_warning(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = model_folder.read_card(models)
    network, _ = model_folder.load(models)
    model_folder.save(models, network, card.model_copy(update={"engine": "openvino 2020.1"}))

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    assert "openvino 2020.1 computed the features" in Classifier(models).warning
    model_folder.save(models, network, card.model_copy(update={"engine": "torch"}))
    assert Classifier(models).warning == ""


def test_no_model_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="no model in"):
        Classifier(tmp_path)
