"""torchvision's classifiers."""

from types import MethodType
from typing import Any

from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum

from pipeline.network import weights
from pipeline.network.views import Preprocess

AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # heads of inception_v3 and googlenet


def names() -> list[str]:
    return list(models.list_models(module=models))


def options(name: str, imagenet: bool) -> dict[str, bool]:
    """Keyword arguments for inception_v3 and googlenet: without auxiliary heads.

    Args:
        imagenet: Whether the input is scaled as their ImageNet weights expect.
    """
    if name not in {"inception_v3", "googlenet"}:
        return {}
    return {"aux_logits": False, "transform_input": imagenet}


def build(name: str, options: dict[str, bool], _size: int) -> nn.Module:
    """A network with random weights from torch's global generator."""
    # Without an explicit init_weights, these two warn that its default will change.
    initialise = {"init_weights": True} if "aux_logits" in options else {}
    return _accept_old_state(models.get_model(name, weights=None, **options, **initialise))


def check_pretrained(_name: str) -> None:
    """Nothing: all have weights, which are downloaded when they are needed."""


def pretrained(name: str) -> nn.Module:
    """A network with its ImageNet weights.

    Raises:
        PipelineError: they are not on this machine and cannot be downloaded, or are damaged.
    """
    imagenet = weights.imagenet(name)
    with weights.tensors_only():
        network = _accept_old_state(models.get_model(name, weights=imagenet))
    if options(name, imagenet=True):  # torchvision loads these weights with auxiliary heads only
        setattr(network, "aux_logits", False)  # noqa: B010
        for head in (prefix.removesuffix(".") for prefix in AUXILIARY):
            if hasattr(network, head):
                setattr(network, head, None)
    return network


def _accept_old_state(network: nn.Module) -> nn.Module:
    """Let mnasnet load state dicts without a version, which safetensors cannot store.

    torchvision would take those for version 1, of 2019.
    """
    if isinstance(network, models.MNASNet):
        network._load_from_state_dict = MethodType(nn.Module._load_from_state_dict, network)
    return network


def preprocess(_network: nn.Module, name: str) -> Preprocess:
    """What the first ImageNet weights were trained with; nothing is downloaded."""
    versions = models.get_model_weights(name)
    first: WeightsEnum = getattr(versions, "IMAGENET1K_V1", None) or versions.DEFAULT
    preset: Any = first.transforms()
    return Preprocess(
        size=preset.crop_size[0],
        resize=preset.resize_size[0],
        interpolation=preset.interpolation.value,
        mean=list(preset.mean),
        std=list(preset.std),
    )


def last_layer(network: nn.Module) -> str:
    """The name of the layer that computes the scores: linear, or squeezenet's convolution."""
    layers = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    return str(layers[-1])
