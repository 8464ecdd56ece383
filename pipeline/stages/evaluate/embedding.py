"""Where the network puts images: what its last layer is given, and a map of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

MAX_IMAGES = 1000  # images on a map: t-SNE takes seconds for as many
MIN_IMAGES = 10  # images, of which t-SNE makes no sense
COMPONENTS = 50
PERPLEXITY = 30.0
Floats = npt.NDArray[np.float64]


@contextmanager
def capture_inputs(head: nn.Module) -> Iterator[list[Tensor]]:
    """While open, gather what the last linear or convolution layer of `head` is given, (B, F)."""
    last = [each for each in head.modules() if isinstance(each, nn.Linear | nn.Conv2d)][-1]
    found: list[Tensor] = []

    def hear(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        values: Tensor = inputs[0].detach()
        found.append((values.mean(dim=(2, 3)) if values.dim() == 4 else values).float().cpu())

    handle = last.register_forward_pre_hook(hear)
    try:
        yield found
    finally:
        handle.remove()


def mapped(values: Floats) -> Floats:
    """(N, F) -> (N, 2), so that images which the network finds alike are near each other.

    t-SNE of the principal components; of very few images, these alone. On one thread, so that it
    is the same every time. Source: L. van der Maaten and G. Hinton, "Visualizing data using t-SNE"
    (2008).
    """
    count = len(values)
    wanted = min(COMPONENTS, *values.shape)
    start = np.zeros((count, 2))
    if not values.std(axis=0).any():  # all alike, or alone
        return start
    with threadpool_limits(1):
        found: Floats = PCA(wanted, svd_solver="full").fit_transform(values)
        start[:, : min(2, wanted)] = found[:, :2]
        if count < MIN_IMAGES:
            return start
        tsne = TSNE(
            perplexity=min(PERPLEXITY, (count - 1) / 3),
            init=start / start.std() * 1e-4,
            random_state=0,
            n_jobs=1,
        )
        placed: Floats = tsne.fit_transform(found).astype(float)
    return placed
