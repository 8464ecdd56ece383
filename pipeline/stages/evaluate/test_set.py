"""Run a trained model over its test set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline.core.errors import PipelineError
from pipeline.network import calibration, device, feature_store, model_folder
from pipeline.network.calibration import Floats
from pipeline.network.examples import Examples
from pipeline.network.feature_store import Source
from pipeline.network.halves import Halves, cut_as_trained
from pipeline.network.model_folder import Card
from pipeline.params import DeviceParams
from pipeline.stages.evaluate import metrics
from pipeline.stages.evaluate.embedding import capture_inputs
from pipeline.stages.evaluate.metrics import Figures, Labels, Probabilities, Selected
from pipeline.stages.evaluate.predictions_csv import PredictionRow


@dataclass(frozen=True)
class LoadedModel:
    """A trained model, ready for the test set."""

    network: nn.Module
    card: Card
    trained: nn.Module
    """The part of the network that was trained."""
    source: Source
    """Inputs of `trained`: cached features, if there are any."""

    @property
    def head(self) -> nn.Module:
        return self.network.get_submodule(self.card.replaced)


def load_model(
    models: Path, features: Path, clean: Path, examples: Examples, params: DeviceParams
) -> LoadedModel:
    """Load the model in the folder `models`."""
    network, card = model_folder.load(models)
    fabric = device.start(params, alone=True)
    index = feature_store.read_index(features)
    halves = Halves(
        cut_as_trained(network, card),
        card.preprocess,
        fabric,
        index.precision,
        index.dtype,
        params.compile,
        all_gpus=True,
        engine=index.engine,
    )
    source = feature_store.open_source(features, clean, None, examples, halves.prefix)
    trained = fabric.setup_module(halves.suffix)
    return LoadedModel(network, card, trained, source)


@dataclass(frozen=True)
class TestSetResult:
    """A model's predictions for the test images, in the order of split.csv."""

    ids: list[str]
    labels: Labels
    classes: list[str]
    as_trained: Probabilities
    """Before calibration."""
    calibrated: Probabilities
    """At the model's temperature, as `pipeline predict` prints them."""
    embedding: Floats
    """(N, F) Inputs of the network's last layer."""

    @property
    def predicted(self) -> Labels:
        labels: Labels = self.calibrated.argmax(axis=1)
        return labels

    def mistakes(self) -> list[int]:
        """Indices of the wrong predictions, the most confident first."""
        indices = np.flatnonzero(self.predicted != self.labels)
        confidence = self.calibrated.max(axis=1)[indices]
        ordered: list[int] = indices[np.argsort(-confidence, kind="stable")].tolist()
        return ordered


def run_on_test_set(model: LoadedModel, examples: Examples) -> TestSetResult:
    """Run the model over the test images."""
    rows = examples.rows("test")
    with device.explain_out_of_memory("lower images.size"), capture_inputs(model.head) as inputs:
        outputs = feature_store.logits(model.trained, model.source, rows)
    if invalid := int((~outputs.isfinite()).any(dim=1).sum()):
        raise PipelineError(
            f"the model's scores are not finite numbers for {invalid} of {len(rows)} test images: "
            "train it again, with a lower train.lr or features.precision=32-true"
        )
    logits = outputs.double().numpy()
    return TestSetResult(
        [examples.ids[row] for row in rows],
        np.asarray(examples.labels[rows]),
        examples.classes,
        calibration.probabilities(logits, 1.0),
        calibration.probabilities(logits, model.card.temperature),
        torch.cat(inputs).double().numpy(),
    )


def compute_figures(
    result: TestSetResult, groups: Sequence[str], slices: dict[str, Selected], card: Card
) -> Figures:
    """The figures of metrics.json."""
    figures = metrics.summary(result.labels, result.calibrated, result.classes, groups, slices)
    figures["loss.as_trained"] = metrics.log_loss(result.labels, result.as_trained)
    figures["ece.as_trained"] = calibration.reliability_bins(result.as_trained, result.labels).error
    figures["temperature"] = card.temperature
    return figures


def prediction_rows(result: TestSetResult, groups: Sequence[str]) -> list[PredictionRow]:
    """The rows of predictions.csv."""
    classes = result.classes
    return [
        PredictionRow(
            key,
            classes[label],
            classes[predicted],
            group,
            dict(zip(classes, probabilities, strict=True)),
        )
        for key, label, predicted, group, probabilities in zip(
            result.ids, result.labels, result.predicted, groups, result.calibrated, strict=True
        )
    ]
