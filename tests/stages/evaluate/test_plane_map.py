import numpy as np
import pytest

from pipeline.stages.evaluate.plane_map import map_to_plane


def test_clusters_stay_apart_and_the_map_is_deterministic() -> None:
    random = np.random.default_rng(0)
    values = random.normal(0, 0.1, (60, 20))
    values[30:] += 3
    points = map_to_plane(values)
    assert points.shape == (60, 2)
    assert np.array_equal(points, map_to_plane(values))
    first, second = points[:30].mean(axis=0), points[30:].mean(axis=0)
    spread = max(points[:30].std(), points[30:].std())
    assert np.linalg.norm(first - second) > 2 * spread


@pytest.mark.parametrize("shape", [(1, 5), (2, 1), (5, 3), (40, 1)])
def test_few_images_or_few_values(shape: tuple[int, int]) -> None:
    points = map_to_plane(np.random.default_rng(0).normal(size=shape))
    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()


def test_identical_images() -> None:
    assert np.isfinite(map_to_plane(np.ones((30, 4)))).all()
