"""A linear classifier of feature rows, and how good its scores are."""

from dataclasses import dataclass

import numpy as np

from pipeline.solvers.problem import Floats, Numbers


@dataclass(frozen=True)
class LinearClassifier:
    """Scores of K classes for D features; their softmax estimates probabilities."""

    weights: Floats
    """(K, D)"""
    bias: Floats
    """(K,)"""

    def scores(self, features: Floats) -> Floats:
        """(B, K)"""
        result: Floats = features @ self.weights.T + self.bias
        return result


@dataclass(frozen=True)
class OutOfGroup:
    """Scores of J rows by fits that had no row of their group."""

    rows: Numbers
    """(J,) The judged rows of the problem, ascending."""
    scores: Floats
    """(J, K)"""
    labels: Numbers
    """(J,)"""

    @property
    def is_right(self) -> Numbers:
        """(J,) 1 where the prediction is right."""
        right: Numbers = (self.scores.argmax(axis=1) == self.labels).astype(np.int64)
        return right

    @property
    def accuracy(self) -> float:
        return float(self.is_right.mean())

    @property
    def log_loss(self) -> float:
        """Mean, in nats."""
        return float(log_losses(self.scores, self.labels).mean())


def log_losses(scores: Floats, labels: Numbers) -> Floats:
    """(N,) The log losses of the softmax of scores (N, K), in nats."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels]
    losses: Floats = np.log(np.exp(shifted).sum(axis=1)) - own
    return losses
