import numpy as np
import numpy.typing as npt
import pytest

from pipeline.commands.review import outliers
from tests.builders.features import LoadedFeatures

Floats = npt.NDArray[np.float32]


def clusters(count: int, dims: int = 16) -> Floats:
    """Two kinds of images."""
    random = np.random.default_rng(0)
    centres = 5 * np.eye(2, dims)
    values = centres[np.arange(count) % 2] + random.normal(0, 0.5, (count, dims))
    return values.astype(np.float32)


def test_planted_outliers_are_first() -> None:
    values = clusters(200)
    values[[20, 150]] = [-np.eye(1, 16)[0], -5 * np.eye(16)[3]]
    rows = outliers.find_outliers(outliers.mean_distances(LoadedFeatures(values), 200))
    assert set(rows[:2].tolist()) == {20, 150}
    assert len(rows) < 10


def test_distances_are_the_means_over_the_nearest_neighbours() -> None:
    values = clusters(40)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    cosine = 1 - unit @ unit.T
    np.fill_diagonal(cosine, np.inf)
    expected = np.sort(cosine, axis=1)[:, :10].mean(axis=1)
    distances = outliers.mean_distances(LoadedFeatures(values), 40)
    np.testing.assert_allclose(distances, expected, atol=1e-6)


def test_a_sample_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    values = clusters(400)
    values[33] = -values[33]
    monkeypatch.setattr(outliers, "MAX_SAMPLE", 80)
    rows = outliers.find_outliers(outliers.mean_distances(LoadedFeatures(values), 400))
    assert rows[0] == 33


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_images_have_no_outliers(count: int) -> None:
    distances = outliers.mean_distances(LoadedFeatures(clusters(count)), count)
    assert distances.shape == (count,)
    assert outliers.find_outliers(distances).tolist() == []


def test_no_images_have_none() -> None:
    assert outliers.find_outliers(np.zeros(0, np.float32)).tolist() == []


def test_features_of_nothing_are_far_from_all() -> None:
    values = clusters(50)
    values[7] = 0  # its direction is undefined
    distances = outliers.mean_distances(LoadedFeatures(values), 50)
    assert np.isfinite(distances).all()
    assert distances.argmax() == 7
