"""From params to a network that is ready to be used in halves."""

from dataclasses import dataclass

from torch import nn

from pipeline.core.errors import PipelineError
from pipeline.network import backbones, heads
from pipeline.network.backbones import Backbone
from pipeline.network.cut import Cut, check_size, cut
from pipeline.network.views import Preprocess
from pipeline.params import HeadParams, ImagesParams, ModelParams

MODULE = "module:"  # before a module's name that has another meaning
WORDS = ("head", "all")


@dataclass(frozen=True)
class Assembly:
    """A network, cut where training begins."""

    backbone: Backbone
    parts: Cut
    replaced: str
    """Name of the module that the head takes the place of."""
    first: str
    """Name of the module that training begins at, "" for the whole network."""
    preprocess: Preprocess

    @property
    def network(self) -> nn.Module:
        return self.backbone.network


@dataclass(frozen=True)
class NewHead:
    """What to end the network with."""

    head: HeadParams
    classes: int
    seed: int


def assemble(
    model: ModelParams, images: ImagesParams, seed: int, end: NewHead | None = None
) -> Assembly:
    """Build the network of `model`, end it with a fresh head (or as it came), and cut it.

    Args:
        seed: Of the backbone's weights, where `model.weights` is `none`.

    Raises:
        PipelineError: the network, its weights, the head or the cut cannot be had as named.
    """
    found = backbones.build(model, images.size, seed)
    replaced = heads.module_replaced(found.network, model.replace, found.last)
    named = model.trainable.removeprefix(MODULE)
    first = {"head": replaced, "all": ""}.get(model.trainable, named)
    if first.startswith(f"{replaced}."):
        raise PipelineError(
            f"model.trainable={first} is inside of what the head takes the place of "
            f"(model.replace={model.replace}): use model.trainable=head"
        )
    check_size(found.network, images.size)  # or the head, or the cut, would be blamed
    if end is not None:
        heads.replace(found.network, replaced, end.head, end.classes, images.size, end.seed)
    preprocess = prepared(images, found.usual)
    parts = cut(found.network, first, images.size)
    head = {id(each) for each in found.network.get_submodule(replaced).parameters()}
    if not head <= {id(each) for each in parts.suffix.parameters()}:
        raise PipelineError(
            f"model.trainable={first} runs after the head (model.replace={model.replace}), which "
            "would not train: use model.trainable=head, or a module before it"
        )
    return Assembly(found, parts, replaced, first, preprocess)


def trainable(module: str) -> str:
    """How `model.trainable` names a module."""
    return MODULE + module if module in WORDS else module


def prepared(images: ImagesParams, usual: Preprocess) -> Preprocess:
    """The weights' own preparation, with what `images` says otherwise."""
    changed: dict[str, object] = {
        "size": images.size,
        "resize": images.resize or round(usual.resize * images.size / usual.size),
    }
    if images.normalise == "none":
        changed |= {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
    if images.normalise == "half":
        changed |= {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    return usual.model_copy(update=changed)
