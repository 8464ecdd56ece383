import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.commands.layers import layers
from pipeline.core.errors import PipelineError
from pipeline.network import cut
from pipeline.network.backbones import blank


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "densenet121"])
def test_the_listed_numbers_equal_those_of_a_cut_at_the_layer(name: str) -> None:
    network = blank(name, {}, 64, seed=0).network
    listed = list(layers.layers(network, 64, depth=2))
    assert len({layer.name for layer in listed}) == len(listed) > 4
    for layer in listed[1::3]:
        halves = cut.cut(network, layer.name, 64)
        if halves.prefix is None:
            continue
        with torch.no_grad():
            crossing = halves.prefix(torch.zeros(2, 3, 64, 64))
        assert [tuple(value.shape[1:]) for value in crossing] == layer.shapes
        assert sum(value.numel() for value in halves.suffix.parameters()) == layer.trainable
        assert layer.values == sum(value[0].numel() for value in crossing)


def test_depth_bounds_the_names() -> None:
    network = blank("resnet18", {}, 64, seed=0).network
    names = [layer.name for layer in layers.layers(network, 64, depth=1)]
    assert names == [
        "conv1",
        "bn1",
        "relu",
        "maxpool",
        "layer1",
        "layer2",
        "layer3",
        "layer4",
        "avgpool",
        "fc",
    ]


class _Wilful(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images if images.sum() > 0 else -images


def test_a_network_that_cannot_be_traced_is_one_sentence() -> None:
    with pytest.raises(PipelineError, match=r"cannot trace this network .*model.trainable=head"):
        list(layers.layers(_Wilful(), 16, depth=1))


def test_the_command_prints_names_and_sizes() -> None:
    result = CliRunner().invoke(app, ["layers", "squeezenet1_1", "--size", "64"])
    assert result.exit_code == 0
    (row,) = [line for line in result.output.splitlines() if line.startswith("features.12 ")]
    assert "512 x 3 x 3" in row
    assert "18.4" in row  # 512 * 3 * 3 float32
