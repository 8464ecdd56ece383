import pytest
from torch import nn

from pipeline.network import backbones, libraries


@pytest.mark.parametrize(
    ("name", "library", "name_there"),
    [
        ("resnet18", "torchvision", "resnet18"),
        ("timm/resnet18", "timm", "resnet18"),
        ("cifar_cnn", "small", "cifar_cnn"),
    ],
)
def test_a_name_and_its_network_are_of_the_same_library(
    name: str, library: str, name_there: str
) -> None:
    assert libraries.library_of(name) == library
    assert libraries.name_in_library(name) == name_there
    network = backbones.blank(name, {}, 32, seed=0).network
    assert libraries.is_of_timm(network) == (library == "timm")


def test_only_timm_declares_code_that_is_not_traced() -> None:
    of_timm = libraries.opaque_code(backbones.blank("timm/resnet18", {}, 32, seed=0).network)
    assert of_timm.modules
    assert of_timm.functions
    assert libraries.opaque_code(nn.Linear(1, 1)) == libraries.OpaqueCode()
