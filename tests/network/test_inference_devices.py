from types import SimpleNamespace

import pytest
import torch

from pipeline.network.inference_devices import inference_devices

NAMES = ["A", "B", "A", "A"]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four GPUs of two types."""

    def properties(where: torch.device) -> SimpleNamespace:
        return SimpleNamespace(name=NAMES[where.index], multi_processor_count=8)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(NAMES))
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 1)


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(("first", "numbers"), [(0, [0, 2, 3]), (1, [1]), (3, [3, 0, 2])])
def test_all_gpus_of_the_type_of_the_first_compute(first: int, numbers: list[int]) -> None:
    devices = inference_devices(torch.device("cuda", first))
    assert [where.index for where in devices] == numbers


@pytest.mark.usefixtures("gpus")
def test_a_gpu_without_a_number_is_the_current_one() -> None:
    first, *others = inference_devices(torch.device("cuda"))
    assert first == torch.device("cuda")
    assert [where.index for where in others] == [2, 3]


@pytest.mark.parametrize("kind", ["cpu", "mps"])
def test_other_devices_are_alone(kind: str) -> None:
    assert inference_devices(torch.device(kind)) == [torch.device(kind)]
