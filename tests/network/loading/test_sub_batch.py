from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pipeline.network.cut import Cut
from pipeline.network.loading.sub_batch import largest_tensor, sub_batch

CUDA = torch.device("cuda", 0)
GIB = 2**30


def network_cut(channels: int, prefix: bool = True) -> Cut:
    wide = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels))
    last = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2))
    return Cut(wide, last) if prefix else Cut(None, nn.Sequential(wide, last))


@pytest.fixture(params=[8, 24, 80])
def gigabytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    properties = SimpleNamespace(total_memory=request.param * GIB)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    return int(request.param)


@pytest.mark.parametrize("prefix", [True, False])
def test_the_largest_tensor_is_measured_in_both_halves(prefix: bool) -> None:
    assert largest_tensor(network_cut(8, prefix), 16) == 8 * 16 * 16
    assert largest_tensor(network_cut(2, prefix), 16) == 3 * 16 * 16  # the image itself


def test_measuring_leaves_the_network_as_it_was() -> None:
    cut = network_cut(4)
    assert isinstance(cut.prefix, nn.Sequential)
    cut.prefix[1].train()
    before = {name: value.clone() for name, value in cut.prefix.state_dict().items()}
    largest_tensor(cut, 16)
    assert all(torch.equal(before[name], value) for name, value in cut.prefix.state_dict().items())
    assert cut.prefix[1].training
    assert not any(module._forward_hooks for module in cut.prefix.modules())


def test_a_cpu_takes_few_images_at_a_time() -> None:
    assert sub_batch(torch.device("cpu"), network_cut(4), 16) == 16


def test_small_images_fill_the_largest_batch(gigabytes: int) -> None:
    assert gigabytes
    assert sub_batch(CUDA, network_cut(8), 32) == 512


def test_larger_images_pass_in_smaller_batches(gigabytes: int) -> None:
    sizes = [sub_batch(CUDA, network_cut(64), size) for size in (64, 224, 448)]
    assert sizes == sorted(sizes, reverse=True)
    image_bytes = 4 * 4 * 64 * 448 * 448
    assert sizes[-1] == 16 or sizes[-1] * image_bytes <= gigabytes * GIB / 4
    assert all(size & (size - 1) == 0 for size in sizes)


def test_a_huge_image_still_passes() -> None:
    assert sub_batch(torch.device("mps"), network_cut(512), 900) == 16
