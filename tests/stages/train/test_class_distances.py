import numpy as np
import pytest
import torch

from pipeline.stages.train import class_distances


def draw_features(count: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of three classes with one covariance, whose axes are not those of the features."""
    random = np.random.default_rng(0)
    labels = torch.from_numpy(random.integers(0, 3, count))
    axes = np.linalg.qr(random.normal(size=(width, width)))[0] * np.linspace(3, 0.2, width)
    means = 100 + random.normal(size=(3, width)) * 2
    values = means[labels] + random.normal(size=(count, width)) @ axes.T
    return torch.from_numpy(values).float(), labels


def test_the_distance_is_mahalanobis_of_the_nearest_class() -> None:
    values, labels = draw_features(5000, 12)
    parts = [(values[start : start + 999], labels[start : start + 999]) for start in (0, 999)]
    values, labels = values[: 2 * 999], labels[: 2 * 999]
    distance = class_distances.fit(parts, classes=4)  # the fourth has no images
    means = torch.stack([values[labels == n].double().mean(dim=0) for n in range(3)])
    residuals = values.double() - means[labels]
    inverse = torch.linalg.inv(residuals.T @ residuals / len(values))
    shifted = values[:50, None].double() - means
    expected = torch.einsum("bkf,fg,bkg->bk", shifted, inverse, shifted).amin(dim=1)
    assert distance(values[:50]).tolist() == pytest.approx(expected.tolist(), rel=0.02)
    assert distance.width == 12
    assert len(distance.means) == 3


@pytest.mark.parametrize("count", [2, 10])
def test_fewer_images_than_features_have_a_distance(count: int) -> None:
    values, labels = draw_features(count, 40)
    distance = class_distances.fit([(values, labels)], classes=3)
    near, far = distance(values), distance(values + 50)
    assert torch.isfinite(near).all()
    assert far.min() > near.max()


def test_features_that_do_not_vary_have_a_distance() -> None:
    values = torch.ones(6, 5)
    distance = class_distances.fit([(values, torch.tensor([0, 0, 0, 1, 1, 1]))], classes=2)
    assert distance(values).tolist() == [0] * 6
    assert (distance(values + 1) > 0).all()


def test_the_same_images_give_the_same_bytes() -> None:
    values, labels = draw_features(300, 200)
    first, second = (class_distances.fit([(values, labels)], 3).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
