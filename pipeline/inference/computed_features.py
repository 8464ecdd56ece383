"""The features of images that a classifier answers, from the forward pass that answers them."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.inference.classifier import NOT_A_NUMBER, Classification, Classifier
from pipeline.network.feature_maps import average_maps

Values = npt.NDArray[np.float32]


class ComputedFeatures:
    """Collects the inputs of classifiers' trained parts, in each thread that computes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: list[Classifier] = []
        self._computed = threading.local()  # features, by the thread that computes

    @contextmanager
    def collecting(self, classifier: Classifier) -> Iterator[None]:
        """Collect the features that this thread computes with a classifier, for `by_image`."""
        with self._lock:
            if classifier not in self._watched:
                classifier.watch(self._collect)
                self._watched = [*self._watched[-1:], classifier]  # it follows an alias
        self._computed.features = []
        try:
            yield
        finally:
            self._computed.features = None

    @property
    def is_collecting(self) -> bool:
        """Whether this thread's features are collected."""
        return getattr(self._computed, "features", None) is not None

    def _collect(self, inputs: Sequence[Tensor]) -> None:
        if self.is_collecting:
            self._computed.features.append(_pool(inputs))

    def by_image(self, answers: Sequence[Classification]) -> list[Values | None]:
        """Features (D,) of images, or None for those that were not computed.

        Within `collecting`; maps of features are averaged.

        Args:
            answers: In the order of computation, also of images that were not computed.
        """
        computed: list[Tensor] = self._computed.features
        values = iter(torch.cat(computed).numpy() if computed else ())
        return [  # a GPU computes padding after them
            next(values) if answer.problem in (None, NOT_A_NUMBER) else None for answer in answers
        ]


def _pool(inputs: Sequence[Tensor]) -> Tensor:
    """(B, D) The tensors at the cut, on the CPU; maps of features are averaged."""
    return torch.cat([average_maps(value.float()) for value in inputs], dim=1).cpu()
