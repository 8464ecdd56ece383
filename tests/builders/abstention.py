"""A model that abstains, made of one that does not."""

from pathlib import Path

import torch

from pipeline.core import shards
from pipeline.images import decoding
from pipeline.inference.classifier import Classifier
from pipeline.network import model_folder
from pipeline.network.abstention import Abstention, AbstentionRule
from pipeline.network.evaluated_suffix import capture_inputs, captured_inputs
from pipeline.stages.train import class_distances


def let_abstain(models: Path, clean: Path) -> Abstention:
    """Give a model thresholds between its answers to the images of `clean`.

    Of a third of the images the set has two classes or more, and a third are far.
    """
    classifier = Classifier(models)
    capture_inputs(classifier.network.get_submodule(classifier.card.replaced))
    rows = shards.columns(clean, ["label", "bytes"]).to_pylist()
    labels = torch.tensor([classifier.card.classes.index(row["label"]) for row in rows])
    probabilities, inputs = [], []
    for row in rows:
        view = classifier.view(decoding.decode(row["bytes"]))
        probabilities.append(classifier.probabilities(view[None]))
        inputs.append(captured_inputs())
    distance = class_distances.fit([(torch.cat(inputs), labels)], len(classifier.card.classes))
    second = torch.cat(probabilities).topk(2).values[:, 1]
    abstention = Abstention(
        coverage=0.95,
        least_probability=_gap(second, len(rows) * 2 // 3),
        coverage_low=0.9,
        coverage_high=0.99,
        false_alarms=0.05,
        farthest=_gap(distance(torch.cat(inputs)), len(rows) * 2 // 3),
        groups=100,
        images=120,
    )
    network, card = model_folder.load(models)
    model_folder.save(models, network, card, AbstentionRule(abstention, distance))
    return abstention


def _gap(values: torch.Tensor, rank: int) -> float:
    """A number between two of the values, (N,)."""
    ordered = values.sort().values
    return float((ordered[rank - 1] + ordered[rank]) / 2)
