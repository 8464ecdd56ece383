from typing import Literal

import pytest
import torch

from pipeline.core.errors import PipelineError
from pipeline.network import device
from pipeline.params import DeviceParams


def on(
    accelerator: Literal["cpu", "cuda"], precision: Literal["32-true", "bf16-mixed", "16-mixed"]
) -> DeviceParams:
    return DeviceParams(accelerator=accelerator, precision=precision, devices=1, compile=False)


def test_the_precision_is_what_was_asked_for_or_refused() -> None:
    found = device.start(on("cpu", "bf16-mixed"))
    assert found.strategy.precision.precision == "bf16-mixed"
    with pytest.raises(PipelineError, match="precision=16-mixed is not for cpu: use bf16-mixed"):
        device.start(on("cpu", "16-mixed"))


def test_an_accelerator_that_is_not_there_is_told() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(PipelineError, match=r"accelerator=cuda .* does not work here"):
        device.start(on("cuda", "32-true"))


def test_alone_is_one_device_whatever_is_asked_for() -> None:
    two = on("cpu", "32-true").model_copy(update={"devices": 2})
    assert device.start(two, alone=True).world_size == 1


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
    ],
    ids=["Python", "CUDA", "CPU on Linux", "CPU on Windows"],
)
def test_a_lack_of_memory_is_told_with_its_remedy(error: Exception) -> None:
    with (
        pytest.raises(PipelineError, match=r"^out of memory: lower images\.size$"),
        device.explain_out_of_memory("lower images.size"),
    ):
        raise error


def test_memory_that_torch_really_lacks_is_told() -> None:
    with (
        pytest.raises(PipelineError, match="out of memory: less"),
        device.explain_out_of_memory("less"),
    ):
        torch.empty(2**60, dtype=torch.uint8)


def test_other_errors_stay_what_they_are() -> None:
    with (
        pytest.raises(RuntimeError, match="shapes"),
        device.explain_out_of_memory("lower images.size"),
    ):
        raise RuntimeError("shapes differ")


def test_one_thread_each_ends_with_the_block() -> None:
    before = torch.get_num_threads()
    inside = []

    def work() -> None:
        with device.one_thread_each():
            inside.append(torch.get_num_threads())
            raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        work()
    assert inside == [1]
    assert torch.get_num_threads() == before


def test_auto_is_full_precision_or_one_that_the_device_does_well() -> None:
    cpu = torch.device("cpu")
    assert device.fastest("auto", cpu) in {"32-true", "bf16-mixed"}
    assert device.fastest("auto", torch.device("mps")) == "32-true"
    assert device.fastest("32-true", cpu) == "32-true"
