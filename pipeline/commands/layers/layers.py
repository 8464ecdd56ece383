"""Where a network can be cut, and what a cut there costs."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from pipeline.core.errors import PipelineError
from pipeline.network.cut import REFUSALS, check_size, crossing_values, trace


@dataclass(frozen=True)
class Layer:
    """A module before which the network can be cut."""

    name: str
    kind: str
    """Its class."""
    shapes: list[tuple[int, ...]]
    """Of what crosses the cut, per image."""
    trainable: int
    """Parameters from here on."""

    @property
    def values(self) -> int:
        """Numbers that cross the cut, per image and view."""
        return sum(torch.Size(shape).numel() for shape in self.shapes)


def layers(network: nn.Module, size: int, depth: int) -> Iterator[Layer]:
    """The modules at most `depth` names deep that a cut can be made before, in order.

    Args:
        size: Side of the images, in pixels.

    Raises:
        PipelineError: the network does not take images of this size, or cannot be traced.
    """
    check_size(network, size)
    try:
        graph = trace(network)
    except (fx.proxy.TraceError, *REFUSALS) as error:
        raise PipelineError(
            f"torch.fx cannot follow this network ({' '.join(str(error).split())[:100]}): it can "
            "be cut at model.trainable=head, or train as a whole (all)"
        ) from error
    with torch.inference_mode():
        ShapeProp(fx.GraphModule(network, graph)).propagate(torch.zeros(2, 3, size, size))
    nodes = [node for node in graph.nodes if node.op not in {"get_attr", "output"}]
    parameters = {id(value): value.numel() for value in network.parameters()}
    known: set[str] = set()
    for at, node in enumerate(nodes):
        for name in _modules_of(node, depth):
            if name not in known:
                known.add(name)
                shapes = _shapes(crossing_values(nodes[:at], nodes[at:]))
                own = _parameters(network, nodes[at:])
                if shapes is not None and own:
                    kind = type(network.get_submodule(name)).__name__
                    yield Layer(name, kind, shapes, sum(parameters[key] for key in own))


def _modules_of(node: fx.Node, depth: int) -> list[str]:
    """The modules that an operation is in, from the outside."""
    inside = [name for name, _ in (node.meta.get("nn_module_stack") or {}).values()]
    if node.op == "call_module":
        inside.append(str(node.target))
    return [name for name in dict.fromkeys(inside) if name and name.count(".") < depth]


def _shapes(crossing: list[fx.Node]) -> list[tuple[int, ...]] | None:
    """Per image; None where several values cross as one, or none belongs to an image.

    Sizes and constants cross too: a cut knows them without being told.
    """
    if any(issubclass(node.meta.get("type", object), tuple | list) for node in crossing):
        return None
    shapes = [node.meta["tensor_meta"].shape for node in crossing if "tensor_meta" in node.meta]
    return [tuple(shape[1:]) for shape in shapes if shape[:1] == (2,)] or None


def _parameters(network: nn.Module, nodes: list[fx.Node]) -> set[int]:
    """Of the modules, and the bare parameters, that some operations use."""
    found: set[int] = set()
    for node in nodes:
        if node.op == "call_module":
            found |= {id(each) for each in network.get_submodule(str(node.target)).parameters()}
        for used in node.all_input_nodes:
            if used.op == "get_attr":
                value: object = network
                for part in str(used.target).split("."):
                    value = getattr(value, part)
                if isinstance(value, nn.Parameter):
                    found.add(id(value))
    return found
