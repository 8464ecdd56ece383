"""Classifiers of timm; the only importer of timm, which takes seconds: import it when asked for."""

from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from torch import nn
from torchvision.transforms import InterpolationMode

from pipeline.core.errors import PipelineError
from pipeline.network.views import Preprocess

PLACES = 1000  # scores that a network gives which came without a head; a fresh one replaces it


def names() -> list[str]:
    """Architectures, and architectures with a tag that says which weights."""
    return [*timm.list_models(), *timm.list_pretrained()]


def build(name: str, pretrained: bool) -> nn.Module:
    """A network with its head, its weights from the Hugging Face hub or random.

    Raises:
        PipelineError: the weights are not on this machine and cannot be downloaded.
    """
    try:
        network: nn.Module = timm.create_model(name, pretrained=pretrained)
    except (OSError, RuntimeError) as error:  # the hub's errors are OSErrors
        raise PipelineError(
            f"cannot get the weights of timm/{name} ({' '.join(str(error).split())[:150]}): "
            "download them where there is a network (they are kept in ~/.cache/huggingface), give "
            "a state dict's path as model.weights, or use model.weights=none"
        ) from error
    if getattr(network, "num_classes", None) == 0:  # weights that describe, and do not classify
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network.reset_classifier(PLACES)  # type: ignore[operator]
    return network


def last_layer(network: nn.Module) -> str:
    """The name of the layer that gives the scores.

    Raises:
        PipelineError: there is none, or more than one.
    """
    found = network.get_classifier()  # type: ignore[operator]
    for name, module in network.named_modules():
        if module is found and isinstance(module, nn.Linear | nn.Conv2d):
            return str(name)
    raise PipelineError(
        f"{type(network).__name__} does not end in one layer that gives the scores: choose another"
        " model.backbone"
    )


def preprocess(network: nn.Module) -> Preprocess:
    """What the weights were trained with, as timm records it."""
    resolve: Any = resolve_model_data_config
    found: dict[str, Any] = resolve(network)
    size = found["input_size"][-1]
    return Preprocess(
        size=size,
        resize=round(size / found["crop_pct"]),
        interpolation=InterpolationMode(found["interpolation"]).value,
        mean=list(found["mean"]),
        std=list(found["std"]),
    )
