import pytest
import torch

from pipeline import device
from pipeline.errors import PipelineError
from pipeline.params import Device


def test_the_precision_is_what_was_asked_for_or_refused() -> None:
    found = device.start(Device(accelerator="cpu", precision="bf16-mixed"))
    assert found.strategy.precision.precision == "bf16-mixed"
    with pytest.raises(PipelineError, match="precision=16-mixed is not for cpu: use bf16-mixed"):
        device.start(Device(accelerator="cpu", precision="16-mixed"))


def test_an_accelerator_that_is_not_there_is_told() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(PipelineError, match=r"accelerator=cuda .* does not work here"):
        device.start(Device(accelerator="cuda", precision="32-true"))
