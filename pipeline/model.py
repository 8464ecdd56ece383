"""The network: a torchvision classifier with a new head; and its home on disk."""

import difflib
import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import models
from torchvision.transforms import InterpolationMode

from pipeline import atomic, weights
from pipeline.errors import PipelineError
from pipeline.params import Head, Images, Model
from pipeline.views import Preprocess

IMAGENET_CLASSES = 1000
# What torchvision's own recipes use almost everywhere, for weights that say nothing of it.
USUAL = Preprocess(
    size=224, resize=256, interpolation=InterpolationMode.BILINEAR.value,
    mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225],
)  # fmt: skip


class Card(BaseModel):
    """model.json: enough to build the network and feed it, without params.yaml."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    format: Literal[1] = 1
    backbone: str
    options: dict[str, bool]
    """Keyword arguments of torchvision's builder."""
    head: Literal["linear"]
    trained_from: str
    """The module training began at, "" for the whole network."""
    classes: list[str]
    """In the order of the outputs."""
    max_megapixels: float
    """Of an image, past which it is not decoded."""
    store_side: int
    """Shorter side, in pixels, that images are scaled down to first, as the filter does."""
    preprocess: Preprocess
    fingerprint: str
    """Digest of everything that the training run depended on."""


@dataclass(frozen=True)
class Backbone:
    """A network that still has the head it came with."""

    network: nn.Module
    name: str
    options: dict[str, bool]
    usual: Preprocess
    """What its weights were trained with."""


def backbone(model: Model, seed: int) -> Backbone:
    """The network of `model.backbone` with its weights; random ones are drawn from `seed`.

    Raises:
        PipelineError: no such network, or its weights are missing, damaged or do not fit.
    """
    _check_name(model.backbone)
    if model.weights == "imagenet":
        pretrained = weights.imagenet(model.backbone)
        options = _options(model.backbone, imagenet=True)
        network = models.get_model(model.backbone, weights=pretrained, **options)
        return Backbone(network, model.backbone, options, _usual(pretrained))
    options = _options(model.backbone, imagenet=False)
    network = _random(model.backbone, options, seed)
    if model.weights != "none":
        _fill(network, weights.read(Path(model.weights)), model)
    return Backbone(network, model.backbone, options, USUAL)


def _check_name(name: str) -> None:
    known = models.list_models(module=models)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3) or ["resnet18", "mobilenet_v2", "vgg16"]
        raise PipelineError(
            f"model.backbone={name} is no torchvision classifier; some that are: {', '.join(close)}"
        )


def _options(name: str, imagenet: bool) -> dict[str, bool]:
    """Inception and googlenet: no auxiliary heads, and the input scaling of their weights."""
    accepted = inspect.signature(models.get_model_builder(name)).parameters
    if name not in {"inception_v3", "googlenet"}:
        assert "weights" in accepted
        return {}
    return {"aux_logits": False, "transform_input": imagenet}


def _random(name: str, options: dict[str, bool], seed: int) -> nn.Module:
    quick = {"init_weights": True} if "aux_logits" in options else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = models.get_model(name, weights=None, **options, **quick)
    return network


def _usual(pretrained: models.WeightsEnum) -> Preprocess:
    preset: Any = pretrained.transforms()
    return Preprocess(
        size=preset.crop_size[0], resize=preset.resize_size[0],
        interpolation=preset.interpolation.value, mean=list(preset.mean), std=list(preset.std),
    )  # fmt: skip


def _fill(network: nn.Module, state: dict[str, torch.Tensor], model: Model) -> None:
    """Load a state dict; its last layer may have other classes, since it is replaced anyway."""
    last = last_layer(network)
    own = network.state_dict()
    fitting = {
        name: value for name, value in state.items()
        if not (name.startswith(f"{last}.") and value.shape != own[name].shape)
        and not name.startswith(("AuxLogits.", "aux1.", "aux2."))
    }  # fmt: skip
    try:
        missing, unexpected = network.load_state_dict(fitting, strict=False)
    except RuntimeError as error:
        raise PipelineError(_misfit(model, str(error).splitlines()[1].strip())) from error
    wrong = [name for name in missing if not name.startswith(f"{last}.")] + unexpected
    if wrong:
        raise PipelineError(_misfit(model, f"{len(wrong)} names differ, the first {wrong[0]}"))


def _misfit(model: Model, why: str) -> str:
    return f"model.weights={model.weights} does not fit model.backbone={model.backbone}: {why}"


def last_layer(network: nn.Module) -> str:
    """The name of the layer that gives the scores: linear, or squeezenet's convolution."""
    outputs = {
        name: getattr(module, "out_features", getattr(module, "out_channels", None))
        for name, module in network.named_modules()
    }
    layers = [name for name, count in outputs.items() if count == IMAGENET_CLASSES]
    return str(layers[-1])


def trained_from(network: nn.Module, trainable: str) -> str:
    """`model.trainable` as a module's name, "" for the whole network."""
    return {"head": last_layer(network), "all": ""}.get(trainable, trainable)


def replace_head(network: nn.Module, head: Head, classes: int, seed: int) -> None:
    """Put a fresh head in the place of the last layer, its weights drawn from `seed`."""
    assert head.kind == "linear"
    name = last_layer(network)
    old = network.get_submodule(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new: nn.Module
        if isinstance(old, nn.Conv2d):
            new = nn.Conv2d(old.in_channels, classes, kernel_size=1)
        else:
            assert isinstance(old, nn.Linear)
            new = nn.Linear(old.in_features, classes)
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, new)


def preprocess(images: Images, usual: Preprocess) -> Preprocess:
    """The weights' own preparation, scaled to `images.size`."""
    scale = images.size / usual.size
    changed: dict[str, Any] = {"size": images.size, "resize": round(usual.resize * scale)}
    if images.normalise == "none":
        changed |= {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
    return usual.model_copy(update=changed)


def save(directory: Path, network: nn.Module, card: Card) -> None:
    """Replace `directory` by model.safetensors and model.json."""
    state = {name: value.contiguous().cpu() for name, value in network.state_dict().items()}
    with atomic.replacing(directory) as staged:
        staged.mkdir()
        save_file(state, staged / "model.safetensors")
        (staged / "model.json").write_text(json.dumps(card.model_dump(), indent=2) + "\n")


def load(directory: Path) -> tuple[nn.Module, Card]:
    """The network that `save` wrote, in evaluation mode, and its card.

    Raises:
        PipelineError: there is none, or its files are damaged or do not belong together.
    """
    try:
        card = Card.model_validate_json((directory / "model.json").read_bytes())
        _check_name(card.backbone)
        network = _random(card.backbone, card.options, seed=0)
        replace_head(network, Head(kind=card.head), len(card.classes), seed=0)
        network.load_state_dict(load_file(directory / "model.safetensors"))
    except FileNotFoundError as error:
        raise PipelineError(
            f"no model in {directory}: `dvc repro` trains one, or name its folder"
        ) from error
    except (ValidationError, SafetensorError, RuntimeError, TypeError) as error:
        why = " ".join(str(error).split())[:200]
        raise PipelineError(f"the model in {directory} is damaged: {why}") from error
    return network.eval(), card


def classes_of(labels: Sequence[str]) -> list[str]:
    """The classes in the order of the network's outputs: sorted by name."""
    return sorted(set(labels))
