"""A trained model held to its test set."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline import batches, calibration, device, model
from pipeline.batches import Examples, Source
from pipeline.calibration import Floats
from pipeline.embedding import heard
from pipeline.feed import PART
from pipeline.frozen import Frozen
from pipeline.metrics import Labels, Probabilities
from pipeline.model import Card
from pipeline.network.cut import cut
from pipeline.network.layout import channels_last
from pipeline.params import Device


@dataclass(frozen=True)
class Judged:
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
class Opened:
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


def open_model(
    models: Path, features: Path, clean: Path, examples: Examples, chosen: Device
) -> Opened:
    """The model of `models`, ready for the test set."""
    network, card = model.load(models)
    parts = cut(network, card.trained_from, card.preprocess.size)
    fabric = device.start(chosen, alone=True)
    index = batches.read_index(features)
    part = Frozen(
        parts, card.preprocess, fabric, index.precision, getattr(torch, index.dtype),
        chosen.compile,
    )  # fmt: skip
    source = batches.open_source(features, clean, None, examples, part)
    trained = fabric.setup_module(channels_last(parts.suffix))
    return Opened(network, card, trained, source)


def judge(opened: Opened, examples: Examples) -> Judged:
    """Run the model over the test set."""
    rows = examples.rows("test")
    with device.memory("lower images.size"), heard(opened.head) as values:
        logits = batches.logits(opened.trained, opened.source, rows, PART).double().numpy()
    return Judged(
        [examples.ids[row] for row in rows], np.asarray(examples.labels[rows]), examples.classes,
        calibration.probabilities(logits, 1.0),
        calibration.probabilities(logits, opened.card.temperature),
        torch.cat(values).double().numpy(),
    )  # fmt: skip
