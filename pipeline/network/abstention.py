"""The rule by which a model answers with several classes, or with none of them.

A set has the classes of at least the model's `least_probability`, and the most likely class in any
case. An image is far if no class has training images near it: the distance is Mahalanobis's, of the
inputs of the last layer, with a mean for each class and one covariance for all. Stage train fits
both thresholds; `predict`, `serve`, MLflow's pyfunc, the ONNX file and the report all use this.

Sources: M. Sadinle et al., "Least ambiguous set-valued classifiers with bounded error levels"
(2019), for the sets; K. Lee et al., "A simple unified framework for detecting out-of-distribution
samples and adversarial attacks" (2018), for the distance.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.params.section import Section

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
TENSORS = ("means", "directions", "weights")  # of the distance


class Abstention(Section):
    """The thresholds, and what they promise for new images of new groups."""

    coverage: Share
    """Share of images whose set has the true class."""
    least_probability: Share
    """Smallest calibrated probability of the classes in a set; 0: it holds all classes."""
    coverage_low: Share
    """Ends of the 95 % interval of this model's coverage, which varies with the images that it was
    calibrated on."""
    coverage_high: Share
    false_alarms: Share
    """Share of images of the classes that count as far."""
    farthest: Annotated[float, Field(ge=0)] | None
    """Largest squared distance that is not far; None: no image is far."""
    groups: Count
    """Validation groups that fitted the thresholds, and did nothing else."""
    images: Count
    """Images in these groups."""


class Distance(nn.Module):
    """Inputs of the last layer (B, F) -> squared distance to the nearest class, (B,).

    The inverse of the covariance is `scale * (I - directions.T @ diag(weights) @ directions)`.
    """

    means: Tensor
    directions: Tensor
    weights: Tensor

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        """
        Args:
            tensors: `means`, (K, F), `directions`, (D, F), orthonormal, and `weights`, (D + 1,),
                from 0 to 1, the last of which is `scale`; all float32.

        Raises:
            ValueError: they do not fit together.
        """
        super().__init__()
        if {*tensors} != {*TENSORS}:
            raise ValueError(f"tensors of the distance are {', '.join(sorted(tensors))}")
        means, directions, weights = (tensors[name].float() for name in TENSORS)
        is_valid = means.dim() == directions.dim() == 2 and means.shape[1] == directions.shape[1]
        if not is_valid or weights.shape != (len(directions) + 1,):
            raise ValueError("tensors of the distance have shapes that do not fit together")
        if not all(value.isfinite().all() for value in (means, directions, weights)):
            raise ValueError("tensors of the distance have values that are not finite")
        self.register_buffer("means", means)
        self.register_buffer("directions", directions)
        self.register_buffer("weights", weights)

    @property
    def width(self) -> int:
        """F."""
        return self.means.shape[1]

    def forward(self, inputs: Tensor) -> Tensor:
        centre = self.means.mean(dim=0)  # differences of large numbers lose digits
        values, means = inputs.float() - centre, self.means - centre
        plain = _squared_distances(values, means)
        scaled = self.directions.T * self.weights[:-1].sqrt()
        along = _squared_distances(values @ scaled, means @ scaled)
        nearest: Tensor = (self.weights[-1] * (plain - along)).amin(dim=1)
        return nearest.clamp(min=0)  # rounding makes it negative


def _squared_distances(values: Tensor, means: Tensor) -> Tensor:
    """(B, K)"""
    norms = (values**2).sum(dim=1, keepdim=True) + (means**2).sum(dim=1)
    return norms - 2 * values @ means.T


class AbstentionRule(nn.Module):
    """Answers by the thresholds of a model."""

    def __init__(self, abstention: Abstention, distance: Distance) -> None:
        super().__init__()
        self.abstention, self.distance = abstention, distance

    def sets(self, probabilities: Tensor) -> Tensor:
        """(B, C) Whether each class is in the set, from calibrated probabilities (B, C)."""
        largest = probabilities.amax(dim=1, keepdim=True)
        members: Tensor = probabilities >= largest.clamp(max=self.abstention.least_probability)
        return members

    def is_far(self, inputs: Tensor) -> Tensor:
        """(B,) Whether no class has training images near, from inputs of the last layer (B, F)."""
        distances = self.distance(inputs)
        limit = self.abstention.farthest
        far: Tensor = distances > (torch.inf if limit is None else limit)
        return far

    def forward(self, probabilities: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.sets(probabilities), self.is_far(inputs)
