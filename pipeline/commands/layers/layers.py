"""Where a network can be cut, and what a cut there costs."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from pipeline.core.errors import PipelineError
from pipeline.network.cut import check_size, crossing_values
from pipeline.network.tracing import UntraceableError, modules_around, trace


@dataclass(frozen=True)
class Layer:
    """A module before which the network can be cut."""

    name: str
    kind: str
    """Its class."""
    shapes: list[tuple[int, ...]]
    """Of the tensors at the cut, per image."""
    trainable: int
    """Parameters from here on."""

    @property
    def values(self) -> int:
        """Numbers at the cut, per image and view."""
        return sum(torch.Size(shape).numel() for shape in self.shapes)


def layers(network: nn.Module, size: int, depth: int) -> Iterator[Layer]:
    """The modules before which a cut is possible, at most `depth` names deep, in order.

    Args:
        size: Side of the images, in pixels.

    Raises:
        PipelineError: the network does not take images of this size, or cannot be traced.
    """
    check_size(network, size)
    try:
        graph = trace(network)
    except UntraceableError as error:
        raise PipelineError(
            f"torch.fx cannot trace this network ({str(error)[:100]}): it can be cut at "
            "model.trainable=head, or train as a whole (all)"
        ) from error
    with torch.inference_mode():
        ShapeProp(fx.GraphModule(network, graph)).propagate(torch.zeros(2, 3, size, size))
    nodes = [node for node in graph.nodes if node.op not in {"get_attr", "output"}]
    parameters = {id(value): value.numel() for value in network.parameters()}
    names: set[str] = set()
    for at, node in enumerate(nodes):
        for name in _modules_of(node, depth):
            if name not in names:
                names.add(name)
                shapes = _shapes(crossing_values(nodes[:at], nodes[at:]))
                trained = _parameters(network, nodes[at:])
                if shapes is not None and trained:
                    kind = type(network.get_submodule(name)).__name__
                    yield Layer(name, kind, shapes, sum(parameters[key] for key in trained))


def _modules_of(node: fx.Node, depth: int) -> list[str]:
    """The modules that an operation is in, the outermost first, at most `depth` names deep."""
    names = dict.fromkeys(modules_around(node))
    return [name for name in names if name and name.count(".") < depth]


def _shapes(crossing: list[fx.Node]) -> list[tuple[int, ...]] | None:
    """Per image; None if a value is a tuple, or none is per image.

    Sizes and constants at the cut are left out: they are not stored.
    """
    if any(issubclass(node.meta.get("type", object), tuple | list) for node in crossing):
        return None
    shapes = [node.meta["tensor_meta"].shape for node in crossing if "tensor_meta" in node.meta]
    return [tuple(shape[1:]) for shape in shapes if shape[:1] == (2,)] or None


def _parameters(network: nn.Module, nodes: list[fx.Node]) -> set[int]:
    """The ids of all parameters that some operations use."""
    ids: set[int] = set()
    for node in nodes:
        if node.op == "call_module":
            ids |= {id(value) for value in network.get_submodule(str(node.target)).parameters()}
        for source in node.all_input_nodes:
            if source.op == "get_attr":
                value: object = network
                for name in str(source.target).split("."):
                    value = getattr(value, name)
                if isinstance(value, nn.Parameter):
                    ids.add(id(value))
    return ids
