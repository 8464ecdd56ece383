"""Inputs of the network's last layer, image by image, and a map of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

MAX_IMAGES = 1000  # on a map: t-SNE takes seconds for as many
MIN_IMAGES = 10  # for t-SNE
COMPONENTS = 50
PERPLEXITY = 30.0
Floats = npt.NDArray[np.float64]


@contextmanager
def capture_inputs(head: nn.Module) -> Iterator[list[Tensor]]:
    """Within the block, collect the inputs, (B, F), of the last linear or convolution layer."""
    last = [layer for layer in head.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1]
    batches: list[Tensor] = []

    def append(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        values: Tensor = inputs[0].detach()
        batches.append((values.mean(dim=(2, 3)) if values.dim() == 4 else values).float().cpu())

    handle = last.register_forward_pre_hook(append)
    try:
        yield batches
    finally:
        handle.remove()


def map_to_plane(values: Floats) -> Floats:
    """(N, F) -> (N, 2), similar images close to each other.

    t-SNE of the principal components; for fewer than `MIN_IMAGES`, the first two components. On one
    thread, for the same result every time. Source: L. van der Maaten and G. Hinton, "Visualizing
    data using t-SNE" (2008).
    """
    count = len(values)
    dimensions = min(COMPONENTS, *values.shape)
    start = np.zeros((count, 2))
    if not values.std(axis=0).any():  # identical images, or only one
        return start
    with threadpool_limits(1):
        components: Floats = PCA(dimensions, svd_solver="full").fit_transform(values)
        start[:, : min(2, dimensions)] = components[:, :2]
        if count < MIN_IMAGES:
            return start
        tsne = TSNE(
            perplexity=min(PERPLEXITY, (count - 1) / 3),
            init=start / start.std() * 1e-4,
            random_state=0,
            n_jobs=1,
        )
        points: Floats = tsne.fit_transform(components).astype(float)
    return points
