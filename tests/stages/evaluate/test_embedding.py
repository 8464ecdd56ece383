import pytest
import torch
from torch import nn

from pipeline.stages.evaluate.embedding import capture_inputs


@pytest.mark.parametrize(
    ("head", "shape"),
    [
        (nn.Linear(6, 2), (3, 6)),
        (nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)), (3, 4)),
        (nn.Conv2d(6, 2, 1), (3, 6)),
    ],
)
def test_the_inputs_of_the_last_layer_are_captured(head: nn.Module, shape: tuple[int, int]) -> None:
    inputs = torch.rand(3, 6, 5, 5) if isinstance(head, nn.Conv2d) else torch.rand(3, 6)
    with capture_inputs(head) as batches:
        head(inputs)
    head(inputs)
    (captured,) = batches
    assert captured.shape == shape
    if isinstance(head, nn.Conv2d):
        assert torch.allclose(captured, inputs.mean(dim=(2, 3)))
