from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pipeline.network.feature_maps import average_maps


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
@pytest.mark.parametrize("size", [2, 3])
def test_maps_are_averaged_over_the_image_wherever_their_channels_are(
    size: int, convert: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
) -> None:
    channels = np.random.default_rng(0).random((4, 5)).astype(np.float32)
    first = np.broadcast_to(channels[:, :, None, None], (4, 5, size, size)).copy()
    last = np.broadcast_to(channels[:, None, None, :], (4, size, size, 5)).copy()
    for maps in (first, last):
        assert np.allclose(average_maps(convert(maps)), channels)


def test_maps_with_as_many_channels_as_rows_have_them_first() -> None:
    maps = np.arange(27, dtype=np.float32).reshape(1, 3, 3, 3)
    assert average_maps(maps).tolist() == [[4, 13, 22]]


def test_other_features_are_flattened() -> None:
    assert average_maps(np.zeros((2, 3, 4), np.float32)).shape == (2, 12)
    assert average_maps(torch.zeros(2, 7)).shape == (2, 7)
