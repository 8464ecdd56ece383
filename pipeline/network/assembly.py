"""Build a network from params: backbone, head, and the cut where training begins."""

from dataclasses import dataclass

from torch import nn

from pipeline.core.errors import PipelineError
from pipeline.network import backbones, heads
from pipeline.network.backbones import Backbone
from pipeline.network.cut import Cut, check_size, cut
from pipeline.network.views import Preprocess
from pipeline.params import FilterParams, HeadParams, ImagesParams, ModelParams

MODULE = "module:"  # before the name of a module that is called like a keyword
KEYWORDS = ("head", "all")  # of model.trainable


@dataclass(frozen=True)
class Assembly:
    """A network, cut where training begins."""

    backbone: Backbone
    cut: Cut
    replaced: str
    """Name of the module that the head replaces."""
    trained_from: str
    """Name of the first module that trains, "" for the whole network."""
    preprocess: Preprocess

    @property
    def network(self) -> nn.Module:
        return self.backbone.network


@dataclass(frozen=True)
class NewHead:
    """The head to end the network with."""

    head: HeadParams
    classes: int
    seed: int


def assemble(
    model: ModelParams, images: ImagesParams, seed: int, new_head: NewHead | None = None
) -> Assembly:
    """Build the network of `model`, replace its head if there is a new one, and cut it.

    Args:
        seed: Of the backbone's weights, where `model.weights` is `none`.

    Raises:
        PipelineError: the network, its weights, the head or the cut are not possible as named.
    """
    backbone = backbones.build(model, images.size, seed)
    network = backbone.network
    replaced = heads.module_replaced(network, model.replace, backbone.last)
    trained_from = _first_trained(model.trainable, replaced)
    if trained_from.startswith(f"{replaced}."):
        raise PipelineError(
            f"model.trainable={trained_from} is inside the module that the head replaces "
            f"(model.replace={model.replace}): use model.trainable=head"
        )
    check_size(network, images.size)  # first: otherwise the head or the cut is blamed
    if new_head is not None:
        heads.replace(
            network, replaced, new_head.head, new_head.classes, images.size, new_head.seed
        )
    network_cut = cut(network, trained_from, images.size)
    _check_head_trains(network, replaced, network_cut, model)
    preprocess = preprocess_of(images, backbone.usual)
    return Assembly(backbone, network_cut, replaced, trained_from, preprocess)


def _first_trained(trainable: str, replaced: str) -> str:
    """The module's name that `model.trainable` stands for, "" for the whole network."""
    return {"head": replaced, "all": ""}.get(trainable, trainable.removeprefix(MODULE))


def _check_head_trains(
    network: nn.Module, replaced: str, network_cut: Cut, model: ModelParams
) -> None:
    trained = {id(parameter) for parameter in network_cut.suffix.parameters()}
    if not all(id(value) in trained for value in network.get_submodule(replaced).parameters()):
        trainable = model.trainable.removeprefix(MODULE)
        raise PipelineError(
            f"model.trainable={trainable} runs after the head (model.replace={model.replace}), "
            "which would not train: use model.trainable=head, or a module before it"
        )


def trainable(module: str) -> str:
    """The value of `model.trainable` for a module."""
    return MODULE + module if module in KEYWORDS else module


def check_stored_size(preprocess: Preprocess, stored_by: FilterParams) -> None:
    """Refuse to enlarge images that stage filter scaled down.

    Raises:
        PipelineError: the evaluation view needs more pixels than filter.store_side leaves.
    """
    side, size, resize = stored_by.store_side, preprocess.size, preprocess.resize
    if resize > side:
        raise PipelineError(
            f"images.size = {size} resizes images to {resize} pixels, but filter.store_side = "
            f"{side}: they would be stored smaller and then enlarged; set "
            f"filter.store_side={resize}, or images.resize={side}"
        )


def preprocess_of(images: ImagesParams, usual: Preprocess) -> Preprocess:
    """The preprocessing of the weights, changed as `images` sets it."""
    changes: dict[str, object] = {
        "size": images.size,
        "resize": images.resize or round(usual.resize * images.size / usual.size),
    }
    if images.normalise == "none":
        changes |= {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
    if images.normalise == "half":
        changes |= {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    return usual.model_copy(update=changes)
