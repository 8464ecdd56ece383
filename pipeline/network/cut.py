"""Cut a network in two where training begins: a frozen prefix and a trainable suffix.

Both are torch.fx graphs over the modules of the whole network, so training the suffix trains the
network.

The graphs are built by hand, and not by torch.fx's `split_module`: that passes parameters which
the network uses directly (class tokens, position and bias tables, layer scales, timm's norms) as
arguments of both halves, so the prefix cannot be called with images alone. That concerns 10 of the
34 networks that the tests cut: torchvision's convnext, vit and maxvit; timm's convnext, vit, deit,
swin, eva02, maxvit and nfnet. In another one, timm's mobilenetv3, the suffix has more arguments
than the prefix has outputs.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from pipeline.core.errors import PipelineError
from pipeline.network.cut_constants import TracedPair, constant, unchanging
from pipeline.network.libraries import is_of_timm
from pipeline.network.tracing import UntraceableError, modules_around, trace

Tensors = tuple[Tensor, ...]
# What a forward pass raises for images of a size that the network does not take.
WRONG_SIZE = (RuntimeError, AssertionError, ValueError)
# What it raises without a module that does not end it, and that module for the network's output.
NOT_THE_END = (
    RuntimeError,  # a convolution for another number of channels
    AssertionError,  # a norm of timm, which asserts the number of dimensions
    ValueError,  # a norm of torch, which checks it
    LookupError,  # squeeze-and-excitation, which takes the mean of dimensions 2 and 3
    TypeError,  # attention, which is called with a mask
    AttributeError,  # an embedding of patches, which is asked for its grid
)


@dataclass(frozen=True)
class Cut:
    """prefix: images (B, 3, S, S) -> tensors (B, ...); suffix: those tensors -> logits (B, C)."""

    prefix: nn.Module | None
    """None when everything trains: then the suffix is the network itself."""
    suffix: nn.Module
    """Takes the prefix's tensors as positional arguments, or the images if there is no prefix."""


def _frozen(prefix: nn.Module, suffix: nn.Module) -> Cut:
    prefix.requires_grad_(False)
    suffix.requires_grad_(True)
    return Cut(prefix, suffix)


def cut(network: nn.Module, first: str, size: int) -> Cut:
    """Cut `network` before the first operation of its module `first`.

    Everything that runs from there on trains. The prefix computes in evaluation mode and without
    gradients; put the suffix into the mode you need.

    Args:
        first: A module's qualified name, or "" for the whole network.
        size: Side of images that the network takes (see `check_size`), to try the cut with.

    Raises:
        PipelineError: no such module runs, or a value at the cut is not one tensor per image.
    """
    network.eval()
    if not first:
        return Cut(None, network)
    try:
        return _cut_graph(network, first, size)
    except UntraceableError as error:
        return _cut_before_the_end(network, first, size, error)


def _cut_graph(network: nn.Module, first: str, size: int) -> Cut:
    graph = trace(network, first)
    nodes = list(graph.nodes)
    at = _first_node_of(nodes, first, network)
    before = [node for node in nodes[:at] if node.op != "get_attr"]
    if all(node.op == "placeholder" for node in before):
        return Cut(None, network)  # `first` is the first module that runs
    after = [node for node in nodes[at:] if node.op not in {"get_attr", "output"}]
    crossing = crossing_values(before, after)
    constants = _constants(_prefix(network, before, crossing), crossing, size, first)
    carried = [node for node in crossing if node not in constants]
    prefix = _prefix(network, before, carried)
    suffix = _suffix(network, after, carried, constants, nodes[-1])
    _check_halves(network, prefix, suffix, size)
    _copy_shared(prefix, suffix, first)
    return _frozen(prefix, suffix)


def _constants(
    prefix: fx.GraphModule, crossing: list[fx.Node], size: int, first: str
) -> dict[fx.Node, TracedPair]:
    try:
        return unchanging(prefix, crossing, size, first)
    except RuntimeError as error:  # torch.fx followed another branch than images do
        raise UntraceableError(str(error)) from error


def _check_halves(network: nn.Module, prefix: nn.Module, suffix: nn.Module, size: int) -> None:
    """Raise UntraceableError if the halves compute other scores than the whole network.

    For timm only, which has too many networks to test; torchvision's and ours are tested.
    """
    if not is_of_timm(network):
        return
    images = _random_images(size)
    with torch.no_grad():
        expected = network(images)
        try:
            scores = suffix.eval()(*prefix(images))
        except RuntimeError as error:
            raise UntraceableError(str(error)) from error
        if not torch.equal(scores, expected):
            raise UntraceableError("its halves compute other scores than the whole network")


def _random_images(size: int) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


class _Without(nn.Module):
    """A copy of the network that returns the input of its module `name`."""

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        parent, _, leaf = name.rpartition(".")
        setattr(self.network.get_submodule(parent), leaf, nn.Identity())

    def forward(self, images: Tensor) -> Tensors:
        return (self.network(images),)


def _cut_before_the_end(network: nn.Module, first: str, size: int, why: UntraceableError) -> Cut:
    """Cut, without tracing, before a module whose output is the network's.

    Raises:
        PipelineError: `first` is not such a module.
    """
    suffix = dict(network.named_modules()).get(first)
    if suffix is not None:
        prefix = _Without(network, first)
        if _are_halves(network, prefix, suffix, _random_images(size)):
            return _frozen(prefix, suffix)
    raise PipelineError(
        f"this network cannot be cut at model.trainable={first} (torch.fx: {why}): use head or all"
    ) from why


@torch.no_grad()
def _are_halves(network: nn.Module, prefix: nn.Module, suffix: nn.Module, images: Tensor) -> bool:
    try:
        scores = suffix(*prefix(images))
    except NOT_THE_END:
        return False
    return isinstance(scores, Tensor) and torch.equal(scores, network(images))


def check_size(network: nn.Module, size: int) -> None:
    """Raise PipelineError if the network does not take images of `size` pixels."""
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(2, 3, size, size))
    except WRONG_SIZE as error:
        why = " ".join(str(error).split())[:200]
        raise PipelineError(
            f"this network cannot take images.size={size} ({why}): use the size it was made for"
        ) from error


def _first_node_of(nodes: list[fx.Node], first: str, network: nn.Module) -> int:
    for number, node in enumerate(nodes):
        if any(name == first or name.startswith(f"{first}.") for name in modules_around(node)):
            return number
    for node in nodes:
        if node.op == "call_module" and first.startswith(f"{node.target}."):
            raise PipelineError(
                f"model.trainable={first} is inside of {node.target}, which cannot be cut: use "
                f"{node.target}"
            )
    outermost = ", ".join(name for name, _ in network.named_children())
    raise PipelineError(
        f"model.trainable={first} names no layer that runs: use head, all, or a module's name; "
        f"the outermost here are {outermost} (`pipeline layers` lists them)"
    )


def crossing_values(before: list[fx.Node], after: list[fx.Node]) -> list[fx.Node]:
    """The values that the prefix computes and the suffix needs, in order."""
    late = set(after)
    return [node for node in before if any(user in late for user in node.users)]


def _copy(graph: fx.Graph, nodes: list[fx.Node], copies: dict[fx.Node, Any]) -> None:
    """Copy operations, and the constants they use, into `graph`; `copies` maps old to new."""

    def copy_of(old: fx.Node) -> Any:
        if old not in copies:
            assert old.op == "get_attr", f"{old} is used before it is computed"
            copies[old] = graph.node_copy(old, copy_of)
        return copies[old]

    for node in nodes:
        copies[node] = graph.node_copy(node, copy_of)


def _prefix(network: nn.Module, before: list[fx.Node], carried: list[fx.Node]) -> fx.GraphModule:
    graph = fx.Graph()
    copies: dict[fx.Node, Any] = {}
    _copy(graph, before, copies)
    graph.output(tuple(copies[node] for node in carried))
    return fx.GraphModule(network, graph, "Prefix").eval()


def _suffix(
    network: nn.Module,
    after: list[fx.Node],
    carried: list[fx.Node],
    constants: dict[fx.Node, TracedPair],
    output: fx.Node,
) -> fx.GraphModule:
    graph = fx.Graph()
    copies: dict[fx.Node, Any] = {node: graph.placeholder(node.name) for node in carried}
    for node, pair in constants.items():
        copies[node] = constant(network, graph, copies[carried[0]], f"traced_{node.name}", pair)
    _copy(graph, after, copies)
    graph.output(fx.map_arg(output.args[0], copies.__getitem__))
    suffix = fx.GraphModule(network, graph, "Suffix")
    for name, value in list(suffix.named_buffers(recurse=False)):
        suffix.register_buffer(name, value, name in network.state_dict())
    return suffix


def _copy_shared(prefix: fx.GraphModule, suffix: nn.Module, first: str) -> None:
    """Give the prefix copies of what it shares with the suffix, such as a dropout that runs twice.

    Otherwise training would change the frozen half too.

    Raises:
        PipelineError: they share weights, and a model stores each of them once.
    """
    trained = {id(component) for component in _components(suffix)}
    for node in prefix.graph.nodes:
        if node.op in {"call_module", "get_attr"}:
            parent, _, name = str(node.target).rpartition(".")
            owner = prefix.get_submodule(parent)
            value = getattr(owner, name)
            shared = [component for component in _components(value) if id(component) in trained]
            if any(isinstance(c, nn.Parameter) or _has_statistics(c) for c in shared):
                raise PipelineError(
                    f"{node.target} runs both before model.trainable={first} and after it: "
                    "choose a module after which everything that runs trains, or head"
                )
            if shared:
                own = copy.deepcopy(value)
                setattr(owner, name, own.eval() if isinstance(own, nn.Module) else own)


def _has_statistics(component: object) -> bool:
    """Whether it updates running statistics in training, as batch norms do."""
    return getattr(component, "track_running_stats", False) is True


def _components(value: Any) -> list[object]:
    """A module with everything in it, or a tensor."""
    if isinstance(value, nn.Module):
        return [*value.modules(), *value.parameters(), *value.buffers()]
    return [value]
