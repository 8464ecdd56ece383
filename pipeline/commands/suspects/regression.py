"""Logistic regression over features that are read block by block."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

MAX_ITERATIONS = 1000
TOLERANCE = 1e-4  # of the largest component of the gradient
INVERSE_PENALTY = 0.01  # small: many features, few images

Floats = npt.NDArray[np.float64]
Values = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

Blocks = Callable[[], Iterator[tuple[Values, Labels]]]
"""Features (B, D) and labels (B,) of all images, in blocks; called once per pass."""


@dataclass(frozen=True)
class Regression:
    """A linear model of standardised features; with two classes, of the second one's logit."""

    mean: Values
    """(D,)"""
    scale: Values
    """(D,) standard deviations, 1 where a feature is constant."""
    weights: Values
    """(outputs, D + 1), the intercepts last."""

    def probabilities(self, values: Values) -> Floats:
        """(B, classes)."""
        logits = self._logits(values).astype(np.float64)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        result: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
        return result

    def _logits(self, values: Values) -> Values:
        return logits_of(_standardise(values, self.mean, self.scale), self.weights)


def logits_of(scaled: Values, weights: Values) -> Values:
    """(B, classes)."""
    logits: Values = scaled @ weights[:, :-1].T + weights[:, -1]
    if len(weights) == 1:  # the logit of the second of two classes
        return np.concatenate([np.zeros_like(logits), logits], axis=1)
    return logits


def fit(blocks: Blocks, classes: int) -> Regression:
    """Fit by L-BFGS from zero, like scikit-learn's LogisticRegression after a StandardScaler."""
    count, mean, scale = _moments(blocks)
    outputs = classes if classes > 2 else 1
    shape = (outputs, len(mean) + 1)
    penalty = 1 / (INVERSE_PENALTY * count)

    def loss_and_gradient(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(shape)
        loss, gradient = 0.0, np.zeros(shape)
        for values, labels in blocks():
            scaled = _standardise(values, mean, scale)
            loss += _add_block(scaled, labels, weights.astype(np.float32), gradient)
            del values, scaled  # before the next block is read
        gradient /= count
        gradient[:, :-1] += penalty * weights[:, :-1]
        return loss / count + penalty / 2 * float((weights[:, :-1] ** 2).sum()), gradient.ravel()

    options = {"maxiter": MAX_ITERATIONS, "gtol": TOLERANCE, "ftol": 0.0, "maxls": 50}
    start = np.zeros(outputs * shape[1])
    result = minimize(loss_and_gradient, start, method="L-BFGS-B", jac=True, options=options)
    return Regression(mean, scale, result.x.reshape(shape).astype(np.float32))


def _add_block(scaled: Values, labels: Labels, weights: Values, gradient: Floats) -> float:
    """The sum of the losses of a block, whose gradient is added to `gradient`."""
    logits = logits_of(scaled, weights)
    rows = np.arange(len(labels))
    logits -= logits.max(axis=1, keepdims=True)
    own = logits[rows, labels].astype(np.float64)
    errors = np.exp(logits, out=logits)
    sums = errors.sum(axis=1, dtype=np.float64)
    errors /= sums[:, None].astype(np.float32)
    errors[rows, labels] -= 1
    errors = errors[:, -len(weights) :]
    gradient[:, :-1] += errors.T @ scaled
    gradient[:, -1] += errors.sum(axis=0, dtype=np.float64)
    return float((np.log(sums) - own).sum())


def _standardise(values: Values, mean: Values, scale: Values) -> Values:
    """With one copy: a block takes some megabytes."""
    scaled: Values = values - mean
    scaled /= scale
    return scaled


def _squares(values: Floats) -> Floats:
    """In place."""
    return np.square(values, out=values)


def _moments(blocks: Blocks) -> tuple[int, Values, Values]:
    """The number of images, and the mean and the standard deviation of each feature."""
    count, total = 0, np.zeros(1)
    for values, _ in blocks():
        count += len(values)
        total = total + values.sum(axis=0, dtype=np.float64)
    mean = total / count
    squares = sum(_squares(values - mean).sum(axis=0) for values, _ in blocks())
    scale = np.sqrt(squares / count)
    scale[scale < 10 * np.finfo(np.float64).eps * np.abs(mean)] = 0
    return count, mean.astype(np.float32), np.where(scale == 0, 1, scale).astype(np.float32)
