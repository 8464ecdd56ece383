"""A trained model held to its test set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline.core import atomic
from pipeline.network import calibration, device, feature_store, model_folder
from pipeline.network.calibration import Floats
from pipeline.network.cut import cut
from pipeline.network.examples import Examples
from pipeline.network.feature_store import Source
from pipeline.network.frozen_prefix import FrozenPrefix
from pipeline.network.memory_format import channels_last
from pipeline.network.model_folder import Card
from pipeline.network.parallel_forward import SUB_BATCH
from pipeline.params import DeviceParams
from pipeline.stages.evaluate import metrics
from pipeline.stages.evaluate.embedding import capture_inputs
from pipeline.stages.evaluate.metrics import Figures, Labels, Probabilities, Selected


@dataclass(frozen=True)
class TestSetResult:
    """The test set, in the order of split.csv, and what the model says of it."""

    ids: list[str]
    labels: Labels
    classes: list[str]
    as_trained: Probabilities
    calibrated: Probabilities
    """At the model's temperature, as `predict` gives them."""
    embedding: Floats
    """(N, F) What the network's last layer is given."""

    @property
    def answers(self) -> Labels:
        found: Labels = self.calibrated.argmax(axis=1)
        return found

    def wrong(self) -> list[int]:
        """Places of the mistakes, the surest first."""
        places = np.flatnonzero(self.answers != self.labels)
        sure = self.calibrated.max(axis=1)[places]
        found: list[int] = places[np.argsort(-sure, kind="stable")].tolist()
        return found


@dataclass(frozen=True)
class LoadedModel:
    """A model, and what to run of it."""

    network: nn.Module
    card: Card
    trained: nn.Module
    """The part of the network that was trained."""
    source: Source
    """Its inputs: cached features, where there are any."""

    @property
    def head(self) -> nn.Module:
        return self.network.get_submodule(self.card.replaced)


def load_model(
    models: Path, features: Path, clean: Path, examples: Examples, params: DeviceParams
) -> LoadedModel:
    """The model of `models`, ready for the test set."""
    network, card = model_folder.load(models)
    parts = cut(network, card.trained_from, card.preprocess.size)
    fabric = device.start(params, alone=True)
    index = feature_store.read_index(features)
    part = FrozenPrefix(
        parts,
        card.preprocess,
        fabric,
        index.precision,
        getattr(torch, index.dtype),
        params.compile,
    )
    source = feature_store.open_source(features, clean, None, examples, part)
    trained = fabric.setup_module(channels_last(parts.suffix))
    return LoadedModel(network, card, trained, source)


def run_on_test_set(opened: LoadedModel, examples: Examples) -> TestSetResult:
    """Run the model over the test set."""
    rows = examples.rows("test")
    with device.explain_out_of_memory("lower images.size"), capture_inputs(opened.head) as values:
        logits = (
            feature_store.logits(opened.trained, opened.source, rows, SUB_BATCH).double().numpy()
        )
    return TestSetResult(
        [examples.ids[row] for row in rows],
        np.asarray(examples.labels[rows]),
        examples.classes,
        calibration.probabilities(logits, 1.0),
        calibration.probabilities(logits, opened.card.temperature),
        torch.cat(values).double().numpy(),
    )


def figures_of(judged: TestSetResult, groups: Sequence[str], parts: dict[str, Selected]) -> Figures:
    """What metrics.json holds, its temperature aside."""
    found = metrics.summary(judged.labels, judged.calibrated, judged.classes, groups, parts)
    found["loss.as_trained"] = metrics.log_loss(judged.labels, judged.as_trained)
    found["ece.as_trained"] = calibration.bins(judged.as_trained, judged.labels).error
    return found


def write_predictions(path: Path, judged: TestSetResult, groups: Sequence[str]) -> None:
    """One row per test image: what it is, what was said, its group, each class's probability."""
    names = judged.classes
    header = ["id", "label", "predicted", "group", *(f"p.{name}" for name in names)]
    rows = [
        (key, names[label], names[answer], group, *(repr(float(value)) for value in values))
        for key, label, answer, group, values in zip(
            judged.ids, judged.labels, judged.answers, groups, judged.calibrated, strict=True
        )
    ]
    atomic.write_csv(path, header, rows)
