import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.network import device
from pipeline.network.evaluated_suffix import EvaluatedSuffix

SUB_BATCH = 16


def make_suffix() -> Any:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 24, 3)
    return nn.Sequential(convolution, nn.BatchNorm2d(24), nn.Flatten(), nn.Linear(24 * 36, 5))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2 * SUB_BATCH, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_values_depend_neither_on_other_images_nor_on_other_threads(images: torch.Tensor) -> None:
    suffix = make_suffix()
    evaluated = EvaluatedSuffix(suffix, suffix[3], SUB_BATCH)
    assert (evaluated.classes, evaluated.width) == (5, 24 * 36)
    batches = [images[start : start + size] for size in (1, 5, 16) for start in (0, 3)]
    with device.one_thread_each(), ThreadPoolExecutor(4) as pool:

        def compute(batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
            with torch.inference_mode():
                return evaluated((batch,))

        first = compute(images[:SUB_BATCH])
        for batch, values in zip(batches, pool.map(compute, batches), strict=True):
            start = int((images == batch[0]).flatten(1).all(dim=1).nonzero()[0])
            count = min(len(batch), SUB_BATCH - start)
            for tensor, expected in zip(values, first, strict=True):
                assert torch.equal(tensor[:count], expected[start : start + count])
    assert torch.allclose(first[0], suffix(images[:SUB_BATCH]), atol=1e-5)
    assert torch.allclose(suffix[3](first[1]), first[0], atol=1e-5)


@torch.inference_mode()
def test_a_copy_on_another_device_captures_its_own_inputs(images: torch.Tensor) -> None:
    suffix = make_suffix()
    evaluated = EvaluatedSuffix(suffix, suffix[3], SUB_BATCH)
    expected = evaluated((images[:4],))
    twin = copy.copy(evaluated).on(torch.device("cpu"))
    nn.init.zeros_(suffix[0].weight)
    for tensor, value in zip(twin((images[:4],)), expected, strict=True):
        assert torch.equal(tensor, value)
