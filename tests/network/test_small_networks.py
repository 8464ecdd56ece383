import pytest
import torch

from pipeline.network.small_networks import CifarCnn, ResNet9


def test_cifar_cnn_has_the_documented_number_of_parameters() -> None:
    assert sum(value.numel() for value in CifarCnn(10, 32).parameters()) == 541_094


@pytest.mark.parametrize("size", [16, 32, 50])
def test_small_networks_take_small_images(size: int) -> None:
    for network in (CifarCnn(7, size), ResNet9(7, 8)):
        assert network.eval()(torch.rand(2, 3, size, size)).shape == (2, 7)


def test_resnet9_has_residual_blocks() -> None:
    network = ResNet9(10, 8).eval()
    block = network.get_submodule("layer1.1")
    values = torch.rand(2, 16, 4, 4)
    assert torch.equal(block(values), values + block.get_submodule("blocks")(values))
