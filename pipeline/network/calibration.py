"""Whether probabilities mean what they say, and one number that makes them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BINS = 15
LIMITS = (0.05, 20.0)  # of the temperature
Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def temperature(logits: Floats, labels: Labels) -> float:
    """What to divide logits (N, C) by, so that their softmax fits `labels` (N,) best.

    It minimises the log loss, with log(temperature) drawn towards 0 as much as one image can: where
    all images are right by far, any lower temperature would fit better still.

    Source: C. Guo et al., "On calibration of modern neural networks" (2017).
    """

    def loss(logarithm: float) -> float:
        logs = log_softmax(logits / np.exp(logarithm), axis=1)
        return float(-logs[np.arange(len(labels)), labels].sum() + logarithm**2 / 2)

    found = minimize_scalar(loss, bounds=np.log(LIMITS), method="bounded")
    return float(np.exp(found.x))


def probabilities(logits: Floats, divisor: float) -> Floats:
    """(N, C) The softmax of logits (N, C) at a temperature."""
    found: Floats = softmax(logits / divisor, axis=1)
    return found


@dataclass(frozen=True)
class Bins:
    """Images by how sure the model was of its answer; empty bins are left out."""

    confidence: Floats
    """(B,) Mean probability of the answer."""
    accuracy: Floats
    """(B,) Share of right answers."""
    count: npt.NDArray[np.int64]
    """(B,)"""

    @property
    def error(self) -> float:
        """The expected calibration error: how far accuracy is from confidence, on average.

        Source: M. P. Naeini et al., "Obtaining well calibrated probabilities using Bayesian
        binning" (2015).
        """
        gap = np.abs(self.accuracy - self.confidence)
        return float((gap * self.count).sum() / self.count.sum())


def bins(found: Floats, labels: Labels) -> Bins:
    """`BINS` bins of equal width of the probabilities (N, C) of the answers."""
    sure, right = found.max(axis=1), found.argmax(axis=1) == labels
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    seen = count > 0
    confidence = np.bincount(place, sure, BINS)[seen] / count[seen]
    accuracy = np.bincount(place, right, BINS)[seen] / count[seen]
    return Bins(confidence, accuracy, count[seen])
