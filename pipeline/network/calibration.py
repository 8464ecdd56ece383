"""Calibration: the temperature that fits probabilities best, and reliability bins."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.network.bounded_minimum import minimise

BINS = 15
BLOCK = 2**20  # scores that are computed with at a time: 8 MB
LIMITS = (0.05, 20.0)  # of the temperature
Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def fit_temperature(logits: npt.NDArray[np.floating[Any]], labels: Labels) -> float:
    """The divisor of logits (N, C) with which their softmax fits `labels` (N,) best.

    It minimises the log loss, with a prior that pulls log(temperature) towards 0 as strongly as one
    image can: without it, a model that is right on every image would get the lowest temperature.

    Source: C. Guo et al., "On calibration of modern neural networks" (2017).
    """
    rows = max(1, BLOCK // logits.shape[1])
    blocks = [slice(start, start + rows) for start in range(0, len(logits), rows)]

    def loss(logarithm: float) -> float:
        temperature = np.exp(logarithm)
        losses = [_log_loss(logits[block] / temperature, labels[block]) for block in blocks]
        return sum(losses) + logarithm**2 / 2

    return float(np.exp(minimise(loss, *np.log(LIMITS).tolist())))


def _log_loss(logits: Floats, labels: Labels) -> float:
    """The sum of the log losses of the softmax of logits (N, C)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    own = (np.arange(len(labels)), labels)
    return float(-(shifted[own] - logs[:, 0]).sum())


@dataclass(frozen=True)
class Bins:
    """Images by the probability of the predicted class; empty bins are left out."""

    confidence: Floats
    """(B,) Mean probability of the predicted class."""
    accuracy: Floats
    """(B,) Share of correct predictions."""
    count: npt.NDArray[np.int64]
    """(B,)"""

    @property
    def error(self) -> float:
        """The expected calibration error: the mean distance of accuracy from confidence.

        Source: M. P. Naeini et al., "Obtaining well calibrated probabilities using Bayesian
        binning" (2015).
        """
        gap = np.abs(self.accuracy - self.confidence)
        return float((gap * self.count).sum() / self.count.sum())


def reliability_bins(confidence: Floats, correct: npt.NDArray[np.bool_]) -> Bins:
    """`BINS` bins of equal width by the probability of the predicted class.

    Args:
        confidence: (N,) Probability of the predicted class.
        correct: (N,) Whether it is the true one.
    """
    numbers = np.minimum((confidence * BINS).astype(int), BINS - 1)
    count = np.bincount(numbers, minlength=BINS)
    filled = count > 0
    mean_confidence = np.bincount(numbers, confidence, BINS)[filled] / count[filled]
    accuracy = np.bincount(numbers, correct, BINS)[filled] / count[filled]
    return Bins(mean_confidence, accuracy, count[filled])
