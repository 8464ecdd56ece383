"""A map of the test images: similar inputs of the network's last layer are close to each other."""

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

MIN_IMAGES = 10  # for t-SNE
COMPONENTS = 50
PERPLEXITY = 30.0
Floats = npt.NDArray[np.float64]


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
