"""Cut a network in two where training begins: a frozen prefix and a trainable suffix.

Both are torch.fx graphs over the whole network's own modules, so whatever trains in the suffix
trains in the network.
"""

import contextlib
import copy
import functools
import sys
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from pipeline.core.errors import PipelineError
from pipeline.network.cut_constants import Pair, constant, unchanging

Tensors = tuple[Tensor, ...]
# How networks say that images, or a module's inputs, are not for them.
REFUSALS = (
    RuntimeError,
    TypeError,
    ValueError,
    AttributeError,
    AssertionError,
    LookupError,
)


@dataclass(frozen=True)
class Cut:
    """prefix: images (B, 3, S, S) -> tensors (B, ...); suffix: those tensors -> logits (B, C)."""

    prefix: nn.Module | None
    """None when everything trains: then the suffix is the network itself."""
    suffix: nn.Module
    """Takes the prefix's tensors as positional arguments, or the images where there is none."""


def _frozen(prefix: nn.Module, suffix: nn.Module) -> Cut:
    prefix.requires_grad_(False)
    suffix.requires_grad_(True)
    return Cut(prefix, suffix)


class _Tracer(fx.Tracer):
    """Keeps whole what reads `training`, or values, and so would be traced for one mode alone."""

    def __init__(self, first: str) -> None:
        # Where timm is not loaded, the network is not of timm.
        timm: Any = sys.modules.get("timm.models._features_fx")
        self._untraceable = tuple(timm.get_notrace_modules()) if timm else ()
        self._first = first
        super().__init__(autowrap_functions=tuple(timm.get_notrace_functions()) if timm else ())

    def create_args_for_root(self, root_fn: Any, *_: object) -> tuple[Any, list[Any]]:
        """Images alone: whatever else a network could be called with keeps its default."""
        return root_fn, [self.root, self.create_proxy("placeholder", "images", (), {})]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, self._untraceable) or super().is_leaf_module(m, module_qualified_name):
            return True
        # What holds the cut is not trained as a whole, so that evaluation mode is right for it.
        kind: Any = type(m)
        return _reads_training(kind) and not self._first.startswith(f"{module_qualified_name}.")


@functools.cache
def _reads_training(kind: Any) -> bool:
    """Whether a method of this class of modules, other than torch's own, looks at `training`."""
    return any(
        "training" in method.__code__.co_names
        for base in kind.__mro__
        if not base.__module__.startswith("torch.nn")
        for method in vars(base).values()
        if isinstance(method, FunctionType)
    )


def cut(network: nn.Module, first: str, size: int) -> Cut:
    """Cut `network` before the first operation of its module `first`.

    Everything that runs from there on trains. The prefix computes in evaluation mode and without
    gradients; put the suffix into the mode you need.

    Args:
        first: A module's qualified name, or "" for the whole network.
        size: Side of images that the network takes (see `check_size`), to try the cut with.

    Raises:
        PipelineError: no such module runs, or a value at the cut does not belong to one image.
    """
    network.eval()
    if not first:
        return Cut(None, network)
    try:
        graph = trace(network, first)
    except (fx.proxy.TraceError, *REFUSALS) as error:
        return _cut_before_the_end(network, first, size, error)
    nodes = list(graph.nodes)
    at = _first_node_of(nodes, first, network)
    before = [node for node in nodes[:at] if node.op != "get_attr"]
    if all(node.op == "placeholder" for node in before):
        return Cut(None, network)  # `first` is the first thing that runs
    after = [node for node in nodes[at:] if node.op not in {"get_attr", "output"}]
    crossing = crossing_values(before, after)
    try:
        known = unchanging(_prefix(network, before, crossing), crossing, size, first)
        carried = [node for node in crossing if node not in known]
        prefix = _prefix(network, before, carried)
        suffix = _suffix(network, after, carried, known, nodes[-1])
        _check_halves(network, prefix, suffix, size)
    except REFUSALS as error:  # torch.fx followed another branch than images do
        return _cut_before_the_end(network, first, size, error)
    _part(prefix, suffix, first)
    return _frozen(prefix, suffix)


def _check_halves(network: nn.Module, prefix: nn.Module, suffix: nn.Module, size: int) -> None:
    """Raise ValueError where the halves give other scores than the whole.

    Of torchvision's networks and ours that is tested; timm has too many.
    """
    if not type(network).__module__.startswith("timm."):
        return
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        if not torch.equal(suffix.eval()(*prefix(images)), network(images)):
            raise ValueError("its halves give other scores than the whole")


def trace(network: nn.Module, first: str = "") -> fx.Graph:
    """The operations of a network in evaluation mode, to be cut at its module `first`."""
    graph = _Tracer(first).trace(network)
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
    functional.dropout: nn.Dropout,
    functional.dropout2d: nn.Dropout2d,
    functional.alpha_dropout: nn.AlphaDropout,
}


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
        with torch.no_grad(), contextlib.suppress(*REFUSALS):
            if torch.equal(suffix(*prefix(images)), network(images)):
                return _frozen(prefix, suffix)
    reason = str(why).splitlines()[0] if str(why) else type(why).__name__
    raise PipelineError(
        f"this network cannot be cut at model.trainable={first} (torch.fx: {reason}): use "
        "head or all"
    ) from why


def check_size(network: nn.Module, size: int) -> None:
    """Raise PipelineError where the network does not take images of `size` pixels."""
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(2, 3, size, size))
    except REFUSALS as error:
        why = " ".join(str(error).split())[:200]
        raise PipelineError(
            f"this network cannot take images.size={size} ({why}): use the size it was made for"
        ) from error


def _first_node_of(nodes: list[fx.Node], first: str, network: nn.Module) -> int:
    for number, node in enumerate(nodes):
        inside = [name for name, _ in (node.meta.get("nn_module_stack") or {}).values()]
        if node.op == "call_module":
            inside.append(str(node.target))
        if any(name == first or name.startswith(f"{first}.") for name in inside):
            return number
    for node in nodes:
        if node.op == "call_module" and first.startswith(f"{node.target}."):
            raise PipelineError(
                f"model.trainable={first} is inside of {node.target}, which cannot be cut: use "
                f"{node.target}"
            )
    tops = ", ".join(name for name, _ in network.named_children())
    raise PipelineError(
        f"model.trainable={first} names no layer that runs: use head, all, or a module's name, "
        f"of which the outermost here are {tops} (`pipeline layers` lists them)"
    )


def crossing_values(before: list[fx.Node], after: list[fx.Node]) -> list[fx.Node]:
    """The values that the prefix computes and the suffix needs, in order."""
    late = set(after)
    return [node for node in before if any(user in late for user in node.users)]


def _copy(graph: fx.Graph, nodes: list[fx.Node], known: dict[fx.Node, Any]) -> None:
    """Copy operations, and the constants they use, into `graph`; `known` maps old to new."""

    def new(old: fx.Node) -> Any:
        if old not in known:
            assert old.op == "get_attr", f"{old} is used before it is computed"
            known[old] = graph.node_copy(old, new)
        return known[old]

    for node in nodes:
        known[node] = graph.node_copy(node, new)


def _prefix(network: nn.Module, before: list[fx.Node], carried: list[fx.Node]) -> fx.GraphModule:
    graph = fx.Graph()
    known: dict[fx.Node, Any] = {}
    _copy(graph, before, known)
    graph.output(tuple(known[node] for node in carried))
    return fx.GraphModule(network, graph, "Prefix").eval()


def _suffix(
    network: nn.Module,
    after: list[fx.Node],
    carried: list[fx.Node],
    known: dict[fx.Node, Pair],
    output: fx.Node,
) -> fx.GraphModule:
    graph = fx.Graph()
    values: dict[fx.Node, Any] = {node: graph.placeholder(node.name) for node in carried}
    for node, pair in known.items():
        values[node] = constant(network, graph, values[carried[0]], f"traced_{node.name}", pair)
    _copy(graph, after, values)
    graph.output(fx.map_arg(output.args[0], values.__getitem__))
    suffix = fx.GraphModule(network, graph, "Suffix")
    for name, value in list(suffix.named_buffers(recurse=False)):
        suffix.register_buffer(name, value, name in network.state_dict())
    return suffix


def _part(prefix: fx.GraphModule, suffix: nn.Module, first: str) -> None:
    """Give the prefix copies of what it shares with the suffix, such as a dropout that runs twice.

    Otherwise what training does to it would change what is frozen.

    Raises:
        PipelineError: they share weights, of which a model has but one copy.
    """
    trained = {id(part) for part in _parts(suffix)}
    for node in prefix.graph.nodes:
        if node.op in {"call_module", "get_attr"}:
            parent, _, name = str(node.target).rpartition(".")
            holder = prefix.get_submodule(parent)
            value = getattr(holder, name)
            shared = [part for part in _parts(value) if id(part) in trained]
            if any(isinstance(part, nn.Parameter) or _moves(part) for part in shared):
                raise PipelineError(
                    f"{node.target} runs both before model.trainable={first} and after it: "
                    "choose a module from which on all that runs trains, or head"
                )
            if shared:
                own = copy.deepcopy(value)
                setattr(holder, name, own.eval() if isinstance(own, nn.Module) else own)


def _moves(part: object) -> bool:
    """Whether it keeps statistics of what it saw in training."""
    return getattr(part, "track_running_stats", False) is True


def _parts(value: Any) -> list[object]:
    """A module with all that is in it, or a tensor."""
    if isinstance(value, nn.Module):
        return [*value.modules(), *value.parameters(), *value.buffers()]
    return [value]
