from typing import Literal

import pytest
import torch

from pipeline.core.errors import PipelineError
from pipeline.network import device
from pipeline.params import DeviceParams


def device_params(
    accelerator: Literal["cpu", "cuda"], precision: Literal["32-true", "bf16-mixed", "16-mixed"]
) -> DeviceParams:
    return DeviceParams(
        accelerator=accelerator, precision=precision, devices=1, nodes=1, compile=False
    )


def test_a_precision_is_used_or_refused() -> None:
    fabric = device.start(device_params("cpu", "bf16-mixed"))
    assert fabric.strategy.precision.precision == "bf16-mixed"
    with pytest.raises(PipelineError, match="precision=16-mixed is not for cpu: use bf16-mixed"):
        device.start(device_params("cpu", "16-mixed"))


def test_a_missing_accelerator_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(PipelineError, match=r"accelerator=cuda .* does not work here"):
        device.start(device_params("cuda", "32-true"))


def test_alone_uses_one_device() -> None:
    two = device_params("cpu", "32-true").model_copy(update={"devices": 2})
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
def test_a_lack_of_memory_is_explained_with_advice(error: Exception) -> None:
    with (
        pytest.raises(PipelineError, match=r"^out of memory: lower images\.size$"),
        device.explain_out_of_memory("lower images.size"),
    ):
        raise error


def test_a_real_lack_of_memory_is_explained() -> None:
    with (
        pytest.raises(PipelineError, match="out of memory: less"),
        device.explain_out_of_memory("less"),
    ):
        torch.empty(2**60, dtype=torch.uint8)


def test_other_errors_pass_through() -> None:
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


def test_auto_is_a_precision_of_the_device() -> None:
    cpu = torch.device("cpu")
    assert device.fastest("auto", cpu) in {"32-true", "bf16-mixed"}
    assert device.fastest("auto", torch.device("mps")) == "32-true"
    assert device.fastest("32-true", cpu) == "32-true"


def test_the_variables_of_fabric_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """`LT_DEVICES=2` would make two processes of one."""
    monkeypatch.setenv("LT_DEVICES", "2")
    assert device.start(device_params("cpu", "32-true")).world_size == 1
