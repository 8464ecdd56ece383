"""Our own small backbones by name, to be trained from scratch."""

from collections.abc import Callable

from torch import nn
from torchvision.transforms import InterpolationMode

from pipeline.core.errors import PipelineError
from pipeline.network.small_networks import CifarCnn, ResNet9
from pipeline.network.views import Preprocess

BUILDERS: dict[str, Callable[[int], nn.Module]] = {
    "cifar_cnn": lambda size: CifarCnn(10, size),
    "resnet9": lambda _: ResNet9(10, 64),
    "resnet9_narrow": lambda _: ResNet9(10, 32),
}
PREPROCESS = Preprocess(
    size=32,
    resize=32,
    interpolation=InterpolationMode.BILINEAR.value,
    mean=[0.485, 0.456, 0.406],  # ImageNet's
    std=[0.229, 0.224, 0.225],
)


def names() -> list[str]:
    return list(BUILDERS)


def build(name: str, _options: dict[str, bool], size: int) -> nn.Module:
    """A network with random weights from torch's global generator."""
    return BUILDERS[name](size)


def check_pretrained(name: str) -> None:
    """Raise PipelineError: nobody trained these on ImageNet."""
    pretrained(name)


def pretrained(name: str) -> nn.Module:
    """Raise PipelineError: nobody trained these on ImageNet."""
    raise PipelineError(
        f"model.backbone={name} has no ImageNet weights: set model.weights=none, and "
        "model.trainable=all"
    )


def preprocess(_network: nn.Module, _name: str) -> Preprocess:
    return PREPROCESS


def last_layer(network: nn.Module) -> str:
    """The name of the last module, which computes the scores."""
    *_, (name, _) = network.named_modules()
    return str(name)
