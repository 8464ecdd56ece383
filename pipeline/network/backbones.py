"""Backbones by name: torchvision's classifiers, timm's, and small ones of our own."""

import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.network import small_models, torchvision_models, weights
from pipeline.network.libraries import TIMM, library_of, name_in_library
from pipeline.network.torchvision_models import AUXILIARY
from pipeline.network.views import Preprocess
from pipeline.params import ModelParams


class Library(Protocol):
    """A module that builds the backbones of a library. Names are without the `timm/`."""

    def names(self) -> list[str]: ...

    def build(self, name: str, options: dict[str, bool], size: int, /) -> nn.Module:
        """A network for images of `size` pixels, with random weights."""

    def check_pretrained(self, name: str, /) -> None:
        """PipelineError if there are no ImageNet weights; nothing is downloaded."""

    def pretrained(self, name: str) -> nn.Module:
        """A network with its ImageNet weights; PipelineError if there are none."""

    def preprocess(self, network: nn.Module, name: str, /) -> Preprocess:
        """What its ImageNet weights were trained with, whatever weights it has."""

    def last_layer(self, network: nn.Module) -> str:
        """The name of the layer that computes the scores."""


def _library(name: str) -> Library:
    library = library_of(name)
    if library == "timm":
        from pipeline.network import timm_models  # takes seconds

        return timm_models
    return small_models if library == "small" else torchvision_models


@dataclass(frozen=True)
class Backbone:
    """A network with its original head."""

    network: nn.Module
    name: str
    options: dict[str, bool]
    """Keyword arguments of torchvision's builder."""
    last: str
    """Name of the layer that computes the scores."""
    usual: Preprocess
    """What its ImageNet weights were trained with."""
    pretrained: bool
    """Whether its weights were read, and not drawn."""


def build(model: ModelParams, size: int, seed: int) -> Backbone:
    """The network of `model.backbone` with its weights; random ones are drawn from `seed`.

    Args:
        size: Side, in pixels, of the images it will see.

    Raises:
        PipelineError: no such network, or its weights are missing, damaged or do not fit.
    """
    if model.weights == "imagenet":
        return _pretrained(model.backbone)
    from_file = model.weights != "none"
    options = torchvision_models.options(model.backbone, imagenet=from_file)
    backbone = blank(model.backbone, options, size, seed)
    if not from_file:
        return backbone
    _load_state(backbone, weights.read(Path(model.weights)), model)
    return replace(backbone, pretrained=True)


def check_weights(model: ModelParams) -> None:
    """Check what can be known about the weights before they are downloaded or read.

    Raises:
        PipelineError: the backbone has no ImageNet weights, or they are not installed.
    """
    if model.weights == "imagenet":
        _library(model.backbone).check_pretrained(name_in_library(model.backbone))


def blank(name: str, options: dict[str, bool], size: int, seed: int) -> Backbone:
    """A network with weights drawn from `seed`.

    Raises:
        PipelineError: there is none of this name.
    """
    check_name(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _library(name).build(name_in_library(name), options, size)
    return _backbone(network, name, options, pretrained=False)


def _pretrained(name: str) -> Backbone:
    check_name(name)
    network = _library(name).pretrained(name_in_library(name))
    options = torchvision_models.options(name, imagenet=True)
    return _backbone(network, name, options, pretrained=True)


def _backbone(
    network: nn.Module, name: str, options: dict[str, bool], pretrained: bool
) -> Backbone:
    usual = _library(name).preprocess(network, name_in_library(name))
    return Backbone(network, name, options, last_layer(network, name), usual, pretrained)


def last_layer(network: nn.Module, name: str) -> str:
    """The name of the layer that computes the scores: linear, or squeezenet's convolution."""
    return _library(name).last_layer(network)


def check_name(name: str) -> None:
    """Raise PipelineError, with similar names, if there is no such backbone."""
    if library_of(name) == "timm":
        names = [TIMM + model for model in _library(name).names()]
        problem = "not a model of timm"
        examples = ["timm/resnet18", "timm/convnext_tiny"]
    else:
        names = [*small_models.names(), *torchvision_models.names()]
        problem = "not a torchvision classifier, nor one of ours"
        examples = ["resnet18", "mobilenet_v2", "vgg16"]
    if name not in names:
        similar = difflib.get_close_matches(name, names, n=3) or examples
        raise PipelineError(
            f"model.backbone={name} is {problem}; some that are: {', '.join(similar)}"
        )


def _load_state(backbone: Backbone, state: dict[str, Tensor], model: ModelParams) -> None:
    """Load a state dict; its last layer may have other classes, since it is replaced anyway."""
    network, last = backbone.network, f"{backbone.last}."
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
        raise _misfit(model, str(error).splitlines()[1].strip()) from error
    wrong = [name for name in missing if not name.startswith(last)] + unexpected
    if wrong:
        raise _misfit(
            model, f"{plural(len(wrong), 'name differs', 'names differ')}, such as {wrong[0]}"
        )
    try:
        weights.check_finite(network)
    except ValueError as error:
        raise PipelineError(f"model.weights={model.weights} is damaged: {error}") from error


def _misfit(model: ModelParams, why: str) -> PipelineError:
    return PipelineError(
        f"model.weights={model.weights} does not fit model.backbone={model.backbone}: {why}"
    )
