from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.network import feature_arrays
from pipeline.network.loading.streams import NoStreams

CPU = torch.device("cpu")


@pytest.fixture
def array(tmp_path: Path) -> feature_arrays.Array:
    np.save(tmp_path / "a.npy", np.arange(120, dtype=np.float16).reshape(10, 3, 4))
    return feature_arrays.load(tmp_path / "a.npy", (10, 3, 4))


@pytest.mark.parametrize("size", [1, 100, 2**20])
def test_an_array_is_copied_whole_in_parts_of_any_size(
    array: feature_arrays.Array, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_arrays, "COPY_BYTES", size)
    copy = feature_arrays.copy_to(CPU, array)
    assert copy.dtype is torch.float16
    assert np.array_equal(copy.numpy(), array)


def test_an_array_without_rows_is_copied() -> None:
    assert feature_arrays.copy_to(CPU, np.empty((0, 5), np.float32)).shape == (0, 5)


def test_gathered_rows_come_in_order(array: feature_arrays.Array) -> None:
    lists = [np.array(rows) for rows in ([3, 1], [9], [0, 0, 2], [5], [4])]
    gathered = feature_arrays.gather_ahead([array, array[:, 0]], lists, NoStreams(CPU))
    for (values, first), rows in zip(gathered, lists, strict=True):
        assert np.array_equal(values.numpy(), array[rows])
        assert np.array_equal(first.numpy(), array[rows, 0])


def test_only_an_accelerator_holds_features() -> None:
    assert feature_arrays.free_memory(CPU) == 0
