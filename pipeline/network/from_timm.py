"""Classifiers of timm; the only importer of timm, which takes seconds: import it when asked for."""

from typing import Any

import timm
import timm.data
from torch import nn
from torchvision.transforms import InterpolationMode

from pipeline.errors import PipelineError
from pipeline.views import Preprocess


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
    found: dict[str, Any] = timm.data.resolve_model_data_config(network)
    size = found["input_size"][-1]
    return Preprocess(
        size=size, resize=round(size / found["crop_pct"]),
        interpolation=InterpolationMode(found["interpolation"]).value,
        mean=list(found["mean"]), std=list(found["std"]),
    )  # fmt: skip
