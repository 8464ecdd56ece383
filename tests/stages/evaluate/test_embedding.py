import numpy as np
import pytest
import torch
from torch import nn

from pipeline.stages.evaluate.embedding import capture_inputs, map_to_plane


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


@pytest.mark.parametrize(
    ("head", "shape"),
    [
        (nn.Linear(6, 2), (3, 6)),
        (nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)), (3, 4)),
        (nn.Conv2d(6, 2, 1), (3, 6)),
    ],
)
def test_the_inputs_of_the_last_layer_are_captured(head: nn.Module, shape: tuple[int, int]) -> None:
    inputs = torch.rand(3, 6, 5, 5) if isinstance(head, nn.Conv2d) else torch.rand(3, 6)
    with capture_inputs(head) as batches:
        head(inputs)
    head(inputs)
    (captured,) = batches
    assert captured.shape == shape
    if isinstance(head, nn.Conv2d):
        assert torch.allclose(captured, inputs.mean(dim=(2, 3)))
