import numpy as np
import pytest
import torch
from torch import nn

from pipeline.stages.evaluate.embedding import capture_inputs, mapped


def test_what_is_apart_stays_apart_and_twice_is_the_same() -> None:
    random = np.random.default_rng(0)
    values = random.normal(0, 0.1, (60, 20))
    values[30:] += 3
    places = mapped(values)
    assert places.shape == (60, 2)
    assert np.array_equal(places, mapped(values))
    one, other = places[:30].mean(axis=0), places[30:].mean(axis=0)
    spread = max(places[:30].std(), places[30:].std())
    assert np.linalg.norm(one - other) > 2 * spread


@pytest.mark.parametrize("shape", [(1, 5), (2, 1), (5, 3), (40, 1)])
def test_few_images_or_few_values(shape: tuple[int, int]) -> None:
    places = mapped(np.random.default_rng(0).normal(size=shape))
    assert places.shape == (shape[0], 2)
    assert np.isfinite(places).all()


def test_images_that_are_all_alike() -> None:
    assert np.isfinite(mapped(np.ones((30, 4)))).all()


@pytest.mark.parametrize(
    ("head", "shape"),
    [
        (nn.Linear(6, 2), (3, 6)),
        (nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)), (3, 4)),
        (nn.Conv2d(6, 2, 1), (3, 6)),
    ],
)
def test_it_hears_what_the_last_layer_is_given(head: nn.Module, shape: tuple[int, int]) -> None:
    given = torch.rand(3, 6, 5, 5) if isinstance(head, nn.Conv2d) else torch.rand(3, 6)
    with capture_inputs(head) as values:
        head(given)
    head(given)
    (found,) = values
    assert found.shape == shape
    if isinstance(head, nn.Conv2d):
        assert torch.allclose(found, given.mean(dim=(2, 3)))
