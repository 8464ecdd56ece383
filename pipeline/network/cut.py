"""Cut a network in two where training begins: a frozen prefix and a trainable suffix.

Both are torch.fx graphs over the whole network's own modules, so whatever trains in the suffix
trains in the network.
"""

import copy
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torchvision.ops import StochasticDepth

from pipeline.errors import PipelineError

Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class Cut:
    """prefix: images (B, 3, S, S) -> tensors (B, ...); suffix: those tensors -> logits (B, C)."""

    prefix: nn.Module | None
    """None when everything trains: then the suffix is the network itself."""
    suffix: nn.Module
    """Takes the prefix's tensors as positional arguments, or the images where there is none."""


class _Tracer(fx.Tracer):
    """Keeps whole what would look at `training`, or at values, once, while it is traced."""

    def __init__(self) -> None:
        # Where timm is not loaded, the network is not of timm.
        timm: Any = sys.modules.get("timm.models._features_fx")
        self._whole: tuple[type[nn.Module], ...] = (StochasticDepth,)
        if timm is not None:
            from timm.layers import DropPath  # type: ignore[attr-defined]

            self._whole = (StochasticDepth, DropPath, *timm.get_notrace_modules())
        super().__init__(autowrap_functions=tuple(timm.get_notrace_functions()) if timm else ())

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self._whole) or super().is_leaf_module(m, module_qualified_name)


def cut(network: nn.Module, first: str, size: int) -> Cut:
    """Cut `network` before the first operation of its module `first`.

    Everything that runs from there on trains. The prefix computes in evaluation mode and without
    gradients; put the suffix into the mode you need.

    Args:
        first: A module's qualified name, or "" for the whole network.
        size: Side of the images, in pixels, to try the cut with.

    Raises:
        PipelineError: the images are too small, no such module runs, or a value at the cut does
            not belong to one image.
    """
    network.eval()
    check_size(network, size)
    if not first:
        return Cut(None, network)
    try:
        graph = trace(network)
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        return _cut_before_the_end(network, first, size, error)
    nodes = list(graph.nodes)
    at = _first_node_of(nodes, first, network)
    before = [node for node in nodes[:at] if node.op != "get_attr"]
    if all(node.op == "placeholder" for node in before):
        return Cut(None, network)  # `first` is the first thing that runs
    after = [node for node in nodes[at:] if node.op not in {"get_attr", "output"}]
    crossing = crossing_values(before, after)
    prefix = _prefix(network, before, crossing)
    suffix = _suffix(network, after, crossing, nodes[-1])
    _try(prefix, size, first)
    prefix.requires_grad_(False)
    suffix.requires_grad_(True)
    return Cut(prefix, suffix)


def trace(network: nn.Module) -> fx.Graph:
    """The network's operations, of a network in evaluation mode."""
    graph = _Tracer().trace(network)
    for number, node in enumerate(list(graph.nodes)):
        if node.target in DROPOUTS:  # a function, which was told not to drop for ever
            layer = DROPOUTS[node.target](node.kwargs.get("p", (*node.args, 0.5, 0.5)[1]))
            name = f"traced_dropout_{number}"
            network.add_module(name, layer.eval())
            with graph.inserting_before(node):
                new = graph.call_module(
                    name, (node.args[0] if node.args else node.kwargs["input"],)
                )
            node.replace_all_uses_with(new)
            graph.erase_node(node)
    return graph


DROPOUTS: dict[Any, type[nn.Module]] = {
    functional.dropout: nn.Dropout, functional.dropout2d: nn.Dropout2d,
    functional.alpha_dropout: nn.AlphaDropout,
}  # fmt: skip


class _Without(nn.Module):
    """A copy of the network that gives what its module `name` would take."""

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        parent, _, leaf = name.rpartition(".")
        setattr(self.network.get_submodule(parent), leaf, nn.Identity())

    def forward(self, images: Tensor) -> Tensors:
        return (self.network(images),)


def _cut_before_the_end(network: nn.Module, first: str, size: int, why: Exception) -> Cut:
    """The cut before a module whose output is the network's: what needs no tracing.

    Raises:
        PipelineError: it is not such a module.
    """
    suffix = dict(network.named_modules()).get(first)
    if suffix is not None:
        images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        prefix = _Without(network, first)
        with torch.inference_mode():
            if torch.equal(suffix(*prefix(images)), network(images)):
                prefix.requires_grad_(False)
                suffix.requires_grad_(True)
                return Cut(prefix, suffix)
    reason = str(why).splitlines()[0] if str(why) else type(why).__name__
    raise PipelineError(
        f"this network cannot be cut at model.trainable={first} (torch.fx: {reason}): use head or all"
    ) from why


def check_size(network: nn.Module, size: int) -> None:
    """Raise PipelineError where the network does not take images of `size` pixels."""
    try:
        with torch.inference_mode():
            network(torch.zeros(2, 3, size, size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise PipelineError(
            f"this network cannot take images.size={size} ({str(error).splitlines()[0]}): use the "
            "size it was made for"
        ) from error


def _first_node_of(nodes: list[fx.Node], first: str, network: nn.Module) -> int:
    for number, node in enumerate(nodes):
        inside = [name for name, _ in (node.meta.get("nn_module_stack") or {}).values()]
        if node.op == "call_module":
            inside.append(str(node.target))
        if any(name == first or name.startswith(f"{first}.") for name in inside):
            return number
    tops = ", ".join(name for name, _ in network.named_children())
    raise PipelineError(
        f"model.trainable={first} names no layer that runs: use head, all, or a module's name, "
        f"of which the outermost here are {tops}"
    )


def crossing_values(before: list[fx.Node], after: list[fx.Node]) -> list[fx.Node]:
    """The values that the prefix computes and the suffix needs, in order."""
    late = set(after)
    return [node for node in before if any(user in late for user in node.users)]


def _copy(graph: fx.Graph, nodes: list[fx.Node], known: dict[fx.Node, fx.Node]) -> None:
    """Copy operations, and the constants they use, into `graph`; `known` maps old to new."""

    def new(old: fx.Node) -> fx.Node:
        if old not in known:
            assert old.op == "get_attr", f"{old} is used before it is computed"
            known[old] = graph.node_copy(old, new)
        return known[old]

    for node in nodes:
        known[node] = graph.node_copy(node, new)


def _prefix(network: nn.Module, before: list[fx.Node], crossing: list[fx.Node]) -> fx.GraphModule:
    graph = fx.Graph()
    known: dict[fx.Node, fx.Node] = {}
    _copy(graph, before, known)
    graph.output(tuple(known[node] for node in crossing))
    return fx.GraphModule(network, graph, "Prefix").eval()


def _suffix(
    network: nn.Module, after: list[fx.Node], crossing: list[fx.Node], output: fx.Node
) -> fx.GraphModule:
    graph = fx.Graph()
    known = {node: graph.placeholder(node.name) for node in crossing}
    _copy(graph, after, known)
    graph.output(fx.map_arg(output.args[0], known.__getitem__))
    return fx.GraphModule(network, graph, "Suffix")


def _try(prefix: fx.GraphModule, size: int, first: str) -> None:
    """Run two blank images through, to see that what crosses the cut belongs to single images."""
    with torch.inference_mode():
        values: Any = prefix(torch.zeros(2, 3, size, size))
    if not all(isinstance(value, Tensor) and value.shape[:1] == (2,) for value in values):
        raise PipelineError(
            f"the network cannot be cut at model.trainable={first}: a value that crosses there "
            "is not one tensor per image; choose a module further out"
        )
