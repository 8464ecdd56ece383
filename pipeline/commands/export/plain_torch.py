"""Export the model as a folder for torch alone: weights, facts, and an example."""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
from torch import nn
from torchvision.ops import Permute

from pipeline.commands.export.preconditions import require_new
from pipeline.core import atomic
from pipeline.network import model_folder, small_networks, tensors
from pipeline.network.heads import OneLogit
from pipeline.network.libraries import library_of, name_in_library
from pipeline.network.model_folder import Card

TEMPLATES = Path(__file__).parent
# The layers of heads, and the arguments to build each again.
ARGUMENTS: dict[type[nn.Module], Any] = {
    nn.Linear: lambda layer: [layer.in_features, layer.out_features],
    nn.Conv2d: lambda layer: [layer.in_channels, layer.out_channels, layer.kernel_size[0]],
    nn.Dropout: lambda layer: [layer.p],
    nn.AdaptiveAvgPool2d: lambda layer: [layer.output_size],
    nn.ReLU: lambda _: [],
    nn.Flatten: lambda _: [],
    Permute: lambda layer: [list(layer.dims)],
    OneLogit: lambda _: [],
}
BUILT = {
    "cifar_cnn": 'CifarCnn(10, PREPROCESS["size"])',
    "resnet9": "ResNet9(10, 64)",
    "resnet9_narrow": "ResNet9(10, 32)",
}


@dataclass(frozen=True)
class PlainModel:
    """The content of the exported model.json, in the order of its keys."""

    backbone: str
    options: Mapping[str, bool]
    """Keyword arguments of the library's builder."""
    replaced: str
    """The module that the head replaces."""
    head: Sequence[Sequence[object]]
    """For each of its layers, the name of its class and the arguments to build it."""
    classes: Sequence[str]
    """In the order of the outputs."""
    temperature: float
    preprocess: Mapping[str, object]
    fingerprint: str


def export(models: Path, destination: Path) -> list[str]:
    """Write the model of the folder `models` to a new folder; return the names of its files.

    Raises:
        PipelineError: `destination` is not empty.
    """
    require_new(destination)
    network, card = model_folder.load(models)
    model = _describe(network, card)
    with atomic.replacing(destination) as staged:
        staged.mkdir()
        tensors.write(staged / "model.safetensors", network.state_dict())
        (staged / "model.json").write_text(json.dumps(asdict(model), indent=2) + "\n")
        (staged / "example.py").write_text(_example(model))
        if library_of(card.backbone) == "small":
            (staged / "network.py").write_text(inspect.getsource(small_networks))
        return sorted(path.name for path in staged.iterdir())


def _describe(network: nn.Module, card: Card) -> PlainModel:
    head = network.get_submodule(card.replaced)
    layers = list(head) if type(head) is nn.Sequential else [head]
    quick = {"init_weights": False} if "aux_logits" in card.options else {}
    return PlainModel(
        backbone=card.backbone,
        options=card.options | quick,
        replaced=card.replaced,
        head=[[type(layer).__name__, *ARGUMENTS[type(layer)](layer)] for layer in layers],
        classes=card.classes,
        temperature=card.temperature,
        preprocess=card.preprocess.model_dump(),
        fingerprint=card.fingerprint,
    )


def _example(model: PlainModel) -> str:
    environment = jinja2.Environment(  # noqa: S701 # it is Python
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    kinds = {layer[0] for layer in model.head}
    name = model.backbone
    return environment.get_template("example.py.jinja").render(
        timm=library_of(name) == "timm",
        name=name_in_library(name),
        small=library_of(name) == "small",
        build=BUILT.get(name, ""),
        one_logit="OneLogit" in kinds,
        permute="Permute" in kinds,
    )
