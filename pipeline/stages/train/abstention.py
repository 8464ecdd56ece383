"""Fit the rule by which a model answers with several classes, or with none of them."""

import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.network import scoring
from pipeline.network.abstention import Abstention, AbstentionRule, Distance
from pipeline.network.evaluated_suffix import last_layer, pool
from pipeline.network.examples import Examples
from pipeline.network.feature_arrays import Rows
from pipeline.params import AbstentionParams
from pipeline.stages.train import class_distances, conformal
from pipeline.stages.train.calibration_images import CalibrationImages
from pipeline.stages.train.conformal import Numbers
from pipeline.stages.train.state import Job

MAX_IMAGES = 20_000  # training images for the distance: as ids are hashes, a random sample


def fit(
    job: Job,
    head: nn.Module,
    examples: Examples,
    calibration: CalibrationImages,
    temperature: float,
    params: AbstentionParams,
) -> AbstentionRule | None:
    """The rule of a trained model; None if no images were set aside for it.

    Args:
        head: The part of the suffix that has the last layer.
    """
    if not len(calibration.rows):
        return None
    distance = _fit_distance(job, head, examples)
    probabilities, distances = [], []
    for scores, inputs, labels in _outputs(job, head, examples, calibration.rows):
        values = scoring.calibrated(scores, temperature)
        probabilities.append(values.gather(1, labels[:, None])[:, 0])
        distances.append(distance(inputs))
    of_labels, to_classes = (
        torch.cat(values).double().numpy() for values in (probabilities, distances)
    )
    return AbstentionRule(describe(of_labels, to_classes, calibration.groups, params), distance)


def _fit_distance(job: Job, head: nn.Module, examples: Examples) -> Distance:
    rows = examples.rows("train")[:MAX_IMAGES]
    outputs = _outputs(job, head, examples, rows)
    return class_distances.fit(
        ((inputs, labels) for _, inputs, labels in outputs), len(examples.classes)
    )


def _outputs(
    job: Job, head: nn.Module, examples: Examples, rows: Rows
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield scores, inputs of the last layer, and labels, in batches.

    In full precision, whatever the training's is, as `pipeline predict` computes them.
    """
    captured: deque[Tensor] = deque()

    def append(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        captured.append(pool(inputs[0].detach()).cpu())

    handle = last_layer(head).register_forward_pre_hook(append)
    start = 0
    try:
        for scores in scoring.score_batches(job.suffix, job.source, rows):
            labels = examples.labels[rows[start : start + len(scores)]]
            start += len(scores)
            yield scores, captured.popleft(), labels
    finally:
        handle.remove()


def describe(
    probabilities: conformal.Floats,
    distances: conformal.Floats,
    groups: Numbers,
    params: AbstentionParams,
) -> Abstention:
    """The thresholds for N images, and what they promise.

    Args:
        probabilities: (N,) Of the true classes.
        distances: (N,) To the nearest class, squared.
        groups: (N,) A number for each group.
    """
    least = -conformal.threshold(-probabilities, groups, params.coverage)
    farthest = conformal.threshold(distances, groups, 1 - params.false_alarms)
    count = len(np.unique(groups))
    low, high = conformal.coverage_interval(count, params.coverage)
    return Abstention(
        coverage=params.coverage,
        least_probability=max(0.0, least),
        coverage_low=low,
        coverage_high=high,
        false_alarms=params.false_alarms,
        farthest=farthest if math.isfinite(farthest) else None,
        groups=count,
        images=len(groups),
    )
