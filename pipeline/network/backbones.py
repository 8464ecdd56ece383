"""Backbones by name: torchvision's classifiers, timm's, and small ones of our own."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.transforms import InterpolationMode

from pipeline.core.errors import PipelineError
from pipeline.network import weights
from pipeline.network.small_networks import CifarCnn, ResNet9
from pipeline.network.views import Preprocess
from pipeline.params import ModelParams

TIMM = "timm/"
SMALL: dict[str, Callable[[int], nn.Module]] = {
    "cifar_cnn": lambda size: CifarCnn(10, size),
    "resnet9": lambda _: ResNet9(10, 64),
    "resnet9_narrow": lambda _: ResNet9(10, 32),
}
# What torchvision's own recipes use almost everywhere.
USUAL = Preprocess(
    size=224,
    resize=256,
    interpolation=InterpolationMode.BILINEAR.value,
    mean=[0.485, 0.456, 0.406],
    std=[0.229, 0.224, 0.225],
)
USUAL_SMALL = USUAL.model_copy(update={"size": 32, "resize": 32})
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")


@dataclass(frozen=True)
class Backbone:
    """A network that still has the head it came with."""

    network: nn.Module
    name: str
    options: dict[str, bool]
    """Keyword arguments of torchvision's builder."""
    last: str
    """Name of the layer that gives the scores."""
    usual: Preprocess
    """What its weights were trained with."""
    pretrained: bool
    """Whether it came with weights."""


def build(model: ModelParams, size: int, seed: int) -> Backbone:
    """The network of `model.backbone` with its weights; random ones are drawn from `seed`.

    Args:
        size: Side, in pixels, of the images it will see.

    Raises:
        PipelineError: no such network, or its weights are missing, damaged or do not fit.
    """
    if model.weights == "imagenet":
        return _pretrained(model.backbone)
    given = model.weights != "none"
    found = blank(model.backbone, _options(model.backbone, imagenet=given), size, seed)
    if not given:
        return found
    _fill(found, weights.read(Path(model.weights)), model)
    return Backbone(**vars(found) | {"pretrained": True})


def blank(name: str, options: dict[str, bool], size: int, seed: int) -> Backbone:
    """A network whose weights are drawn from `seed`.

    Raises:
        PipelineError: there is none of this name.
    """
    check_name(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name in SMALL:
            network = SMALL[name](size)
        elif name.startswith(TIMM):
            from pipeline.network import timm_models

            network = timm_models.build(name.removeprefix(TIMM), pretrained=False)
        else:
            quick = {"init_weights": True} if "aux_logits" in options else {}
            network = _plain(models.get_model(name, weights=None, **options, **quick))
    return Backbone(network, name, options, last_layer(network, name), _usual(network, name), False)


def _pretrained(name: str) -> Backbone:
    check_name(name)
    if name in SMALL:
        raise PipelineError(
            f"model.backbone={name} has no ImageNet weights: set model.weights=none, and "
            "model.trainable=all"
        )
    options = _options(name, imagenet=True)
    if name.startswith(TIMM):
        from pipeline.network import timm_models

        network = timm_models.build(name.removeprefix(TIMM), pretrained=True)
        usual = _usual(network, name)
    else:
        found = weights.imagenet(name)
        network = _plain(models.get_model(name, weights=found))
        if options:  # built with the auxiliary heads, for torchvision insists on them
            setattr(network, "aux_logits", False)  # noqa: B010
            for part in (part.removesuffix(".") for part in AUXILIARY):
                if hasattr(network, part):
                    setattr(network, part, None)
        usual = _preset(found)
    return Backbone(network, name, options, last_layer(network, name), usual, True)


def check_name(name: str) -> None:
    """Raise PipelineError, with names that are close, where no backbone is called so."""
    if name.startswith(TIMM):
        from pipeline.network import timm_models

        known = [TIMM + each for each in timm_models.names()]
        said = "no model of timm"
        usual = ["timm/resnet18", "timm/convnext_tiny"]
    else:
        known = [*SMALL, *models.list_models(module=models)]
        said = "no torchvision classifier, and none of ours"
        usual = ["resnet18", "mobilenet_v2", "vgg16"]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3) or usual
        raise PipelineError(f"model.backbone={name} is {said}; some that are: {', '.join(close)}")


def _options(name: str, imagenet: bool) -> dict[str, bool]:
    """Inception and googlenet: no auxiliary heads, and the input scaling of their weights."""
    if name not in {"inception_v3", "googlenet"}:
        return {}
    return {"aux_logits": False, "transform_input": imagenet}


def _plain(network: nn.Module) -> nn.Module:
    """The network, which loads state dicts that do not say which version they are of.

    safetensors cannot say it. mnasnet asks; since version 2 (2019) nothing has changed.
    """
    if isinstance(network, models.MNASNet):
        network._load_from_state_dict = MethodType(nn.Module._load_from_state_dict, network)
    return network


def _usual(network: nn.Module, name: str) -> Preprocess:
    """As the backbone's ImageNet weights have it, whatever weights it has."""
    if name.startswith(TIMM):
        from pipeline.network import timm_models

        return timm_models.preprocess(network)
    if name in SMALL:
        return USUAL_SMALL
    known = models.get_model_weights(name)  # of which the file is not wanted
    first = getattr(known, "IMAGENET1K_V1", None) or known.DEFAULT
    return _preset(first)


def _preset(found: models.WeightsEnum) -> Preprocess:
    preset: Any = found.transforms()
    return Preprocess(
        size=preset.crop_size[0],
        resize=preset.resize_size[0],
        interpolation=preset.interpolation.value,
        mean=list(preset.mean),
        std=list(preset.std),
    )


def last_layer(network: nn.Module, name: str) -> str:
    """The name of the layer that gives the scores: linear, or squeezenet's convolution."""
    if name.startswith(TIMM):
        from pipeline.network import timm_models

        return timm_models.last_layer(network)
    layers = [
        key for key, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    return str(layers[-1])


def _fill(found: Backbone, state: dict[str, Tensor], model: ModelParams) -> None:
    """Load a state dict; its last layer may have other classes, since it is replaced anyway."""
    network, last = found.network, f"{found.last}."
    own = network.state_dict()
    fitting = {
        name: value
        for name, value in state.items()
        if not name.startswith(AUXILIARY)
        and not (name.startswith(last) and (name not in own or value.shape != own[name].shape))
    }
    try:
        missing, unexpected = network.load_state_dict(fitting, strict=False)
    except RuntimeError as error:
        raise PipelineError(_misfit(model, str(error).splitlines()[1].strip())) from error
    wrong = [name for name in missing if not name.startswith(last)] + unexpected
    if wrong:
        raise PipelineError(_misfit(model, f"{len(wrong)} names differ, the first {wrong[0]}"))


def _misfit(model: ModelParams, why: str) -> str:
    return f"model.weights={model.weights} does not fit model.backbone={model.backbone}: {why}"
