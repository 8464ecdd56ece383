import pytest
import torch
from torch import nn
from torchvision import models

from pipeline import cut, model
from pipeline.errors import PipelineError

# One of each family that is built differently, small enough to try; its side in pixels, and a
# module well before the head.
FAMILIES = [
    ("mobilenet_v2", 64, "features.14"),
    ("resnet18", 64, "layer3.1"),
    ("vgg11", 64, "features.16"),
    ("squeezenet1_1", 64, "features.9"),
    ("densenet121", 64, "features.denseblock4.denselayer9"),
    ("googlenet", 64, "inception4b"),
    ("inception_v3", 96, "Mixed_7b"),
    ("mnasnet0_5", 64, "layers.11"),
    ("shufflenet_v2_x0_5", 64, "stage3.1"),
    ("efficientnet_b0", 64, "features.6"),
    ("regnet_y_400mf", 64, "trunk_output.block3"),
    ("convnext_tiny", 64, "features.7"),
    ("swin_t", 64, "features.7"),
    ("vit_b_32", 224, "encoder.layers.encoder_layer_10"),
]


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": False} if "tion" in name else {}
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else options
    built: nn.Module = models.get_model(name, weights=None, **options)
    return built.eval()


@pytest.mark.parametrize(("name", "side", "module"), FAMILIES, ids=[f[0] for f in FAMILIES])
def test_both_halves_compute_what_the_whole_computes_bit_for_bit(
    name: str, side: int, module: str
) -> None:
    built = network(name)
    images = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = built(images)
    for first in (model.last_layer(built), module):
        halves = cut.cut(built, first, side)
        assert halves.prefix is not None
        with torch.no_grad():
            assert torch.equal(halves.suffix.eval()(*halves.prefix(images)), whole)


def test_the_suffix_trains_the_network_itself_and_the_prefix_is_frozen() -> None:
    built = network("resnet18")
    halves = cut.cut(built, "layer4", 64)
    trained = {name for name, value in built.named_parameters() if value.requires_grad}
    assert trained == {
        name for name, _ in built.named_parameters() if name.startswith(("layer4.", "fc."))
    }
    assert set(dict(halves.suffix.named_parameters())) == trained
    weight = built.get_parameter("fc.weight")
    assert halves.suffix.get_parameter("fc.weight") is weight


def test_gradients_are_those_of_the_whole_network_with_the_rest_frozen() -> None:
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    halves = cut.cut(network("resnet18"), "layer4", 64)
    assert halves.prefix is not None
    halves.suffix.train()
    halves.suffix(*halves.prefix(images)).square().sum().backward()

    whole = network("resnet18")  # the same weights: the same seed
    for part in (whole.get_submodule("layer4"), whole.get_submodule("fc")):
        part.train()
    whole(images).square().sum().backward()

    for name, value in halves.suffix.named_parameters():
        expected = whole.get_parameter(name).grad
        assert value.grad is not None
        assert expected is not None
        assert torch.equal(value.grad, expected), name


@pytest.mark.parametrize("first", ["", "features", "features.0.0"])
def test_nothing_is_frozen_when_training_begins_at_the_start(first: str) -> None:
    built = network("mobilenet_v2")
    halves = cut.cut(built, first, 64)
    assert halves.prefix is None
    assert halves.suffix is built


def test_an_unknown_module_is_named_together_with_those_there_are() -> None:
    with pytest.raises(PipelineError, match=r"trainable=layer9 .* conv1, .* layer4, .* fc"):
        cut.cut(network("resnet18"), "layer9", 64)


class _Shapely(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.last = nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        total = self.first(images).sum()  # over the batch: no longer one value per image
        scores: torch.Tensor = self.last(total * torch.ones(4))
        return scores


def test_a_cut_through_a_value_that_is_not_per_image_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"cannot be cut at model.trainable=last"):
        cut.cut(_Shapely(), "last", 16)


def test_images_that_the_network_cannot_take_are_told() -> None:
    with pytest.raises(PipelineError, match=r"cannot take images.size=64 \(Wrong image height"):
        cut.cut(network("vit_b_32"), "heads.head", 64)
