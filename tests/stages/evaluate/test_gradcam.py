import numpy as np
import pytest
import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import Tensor, nn
from torchvision import models

from pipeline.core.errors import PipelineError
from pipeline.network import backbones, device
from pipeline.network.model_folder import Card
from pipeline.network.small_networks import CifarCnn
from pipeline.network.views import Preprocess
from pipeline.params import HeadParams
from pipeline.stages.evaluate.gradcam import Explainer, last_feature_map, overlay

SIZE = 32
CARD = Card(
    backbone="cifar_cnn",
    options={},
    replaced="classifier",
    trained_from="",
    classes=["a", "b"],
    head=HeadParams(kind="linear", hidden=8, dropout=0.5, one_logit=False),
    max_megapixels=1,
    store_side=32,
    fingerprint="f",
    preprocess=Preprocess(
        size=SIZE, resize=SIZE, interpolation="bilinear", mean=[0.0] * 3, std=[1.0] * 3
    ),
)


class Corner(nn.Module):
    """The score of class 1 is the brightness of the upper left quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Conv2d(3, 2, 4, stride=4, bias=False)
        nn.init.constant_(self.map.weight, 0.1)

    def forward(self, images: Tensor) -> Tensor:
        features = self.map(images)
        bright = features[:, :, :4, :4].mean(dim=(1, 2, 3))
        return torch.stack([-bright, bright], dim=1)


def test_the_heatmap_covers_the_pixels_that_decide() -> None:
    views = torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8)
    views[0, :, :12, :12] = 255
    views[1, :, 20:, 20:] = 255
    heat = Explainer(Corner(), CARD).heat(views, [1, 1])
    assert heat.shape == (2, SIZE, SIZE)
    row, column = np.unravel_index(int(heat[0].argmax()), (SIZE, SIZE))
    assert max(row, column) < 16
    assert heat[0, 24:, 24:].max() == 0
    assert 0 <= heat.min() <= heat.max() <= 1


def test_explaining_leaves_the_network_unchanged() -> None:
    network = CifarCnn(2, SIZE).eval().requires_grad_(False)
    views = torch.randint(256, (3, 3, SIZE, SIZE)).byte()
    before = network(views.float())
    Explainer(network, CARD).heat(views, [0, 1, 0])
    assert torch.equal(network(views.float()), before)
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("name", ["mobilenet_v2", "densenet121", "squeezenet1_1", "convnext_tiny"])
def test_the_heatmaps_are_captums(name: str) -> None:
    """To the last digit, for networks that change the feature map in place, and that do not."""
    torch.manual_seed(0)
    network = models.get_model(name, weights=None, num_classes=3).eval()
    preprocess = CARD.preprocess.model_copy(update={"size": 64, "resize": 64})
    views, classes = torch.randint(256, (3, 3, 64, 64)).byte(), [0, 2, 1]
    card = CARD.model_copy(update={"preprocess": preprocess})
    heat = Explainer(network, card).heat(views, classes)
    layer = network.get_submodule(last_feature_map(network, 64))
    images = preprocess.normalise(views).requires_grad_()
    with device.one_thread_each():
        coarse = LayerGradCam(network, layer).attribute(
            images, torch.tensor(classes), relu_attributions=True
        )
    expected = LayerAttribution.interpolate(coarse, [64] * 2, "bilinear")[:, 0].detach()
    assert expected.any()
    assert torch.equal(heat, expected / expected.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer4"),
        ("vgg11", "avgpool"),
        ("squeezenet1_1", "classifier.2"),
        ("densenet121", "features"),
        ("mobilenet_v3_small", "features"),
        ("swin_t", "permute"),
        ("convnext_tiny", "features"),
    ],
)
def test_the_last_feature_map_of_several_architectures(name: str, layer: str) -> None:
    assert last_feature_map(models.get_model(name, weights=None, num_classes=2), 64) == layer


@pytest.mark.parametrize(
    "name", ["vit_b_32", "timm/vit_tiny_patch16_224", "timm/swin_tiny_patch4_window7_224"]
)
def test_a_transformer_without_feature_maps_is_refused(name: str) -> None:
    with pytest.raises(PipelineError, match="convolutional"):
        last_feature_map(backbones.blank(name, {}, 224, seed=0).network, 224)


def test_the_overlay_is_red_where_the_heatmap_is_high_and_blue_where_it_is_low() -> None:
    view = torch.full((3, 4, 4), 200, dtype=torch.uint8)
    heat = torch.zeros(4, 4)
    heat[0, 0] = 1
    pixels = overlay(view, heat)
    assert pixels.shape == (4, 4, 3)
    red, blue = pixels[0, 0], pixels[3, 3]
    assert red[0] > red[2]
    assert blue[2] > blue[0]


def test_a_network_without_feature_maps_is_refused() -> None:
    with pytest.raises(PipelineError, match="no feature maps"):
        Explainer(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 2)), CARD)
