"""Trace a network with torch.fx in evaluation mode, so that its parts can still be trained."""

import functools
from types import FunctionType
from typing import Any

from torch import fx, nn
from torch.nn import functional

from pipeline.network.libraries import opaque_code

# What torch.fx raises, and a network's `forward` where a proxy stands in the place of a tensor.
UNTRACEABLE = (
    fx.proxy.TraceError,  # a branch on values
    RuntimeError,  # len() of a tensor
    TypeError,  # range() of a size
    LookupError,  # a table of sizes
    AssertionError,  # a check that asserts
    ValueError,  # a check that raises
)
DROPOUTS: dict[Any, type[nn.Module]] = {
    functional.dropout: nn.Dropout,
    functional.dropout2d: nn.Dropout2d,
    functional.alpha_dropout: nn.AlphaDropout,
}


class UntraceableError(Exception):
    """torch.fx cannot trace the network, or traced something that computes other values."""


class _Tracer(fx.Tracer):
    """Does not trace into modules that read `training` or values: one mode would be baked in."""

    def __init__(self, network: nn.Module, first: str) -> None:
        opaque = opaque_code(network)
        self._opaque = opaque.modules
        self._first = first
        super().__init__(autowrap_functions=opaque.functions)

    def create_args_for_root(self, root_fn: Any, *_: object) -> tuple[Any, list[Any]]:
        """The images only: other arguments of `forward` keep their defaults."""
        return root_fn, [self.root, self.create_proxy("placeholder", "images", (), {})]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, self._opaque) or super().is_leaf_module(m, module_qualified_name):
            return True
        # A module around the cut never trains as a whole, so it is traced in evaluation mode.
        kind: Any = type(m)
        return _reads_training(kind) and not self._first.startswith(f"{module_qualified_name}.")


@functools.cache
def _reads_training(kind: Any) -> bool:
    """Whether a method of this module class, other than torch's own, reads `training`."""
    return any(
        "training" in method.__code__.co_names
        for base in kind.__mro__
        if not base.__module__.startswith("torch.nn")
        for method in vars(base).values()
        if isinstance(method, FunctionType)
    )


def trace(network: nn.Module, first: str = "") -> fx.Graph:
    """The operations of a network in evaluation mode, to be cut at its module `first`.

    Raises:
        UntraceableError: torch.fx cannot trace it.
    """
    try:
        graph = _Tracer(network, first).trace(network)
    except UNTRACEABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UntraceableError(reason) from error
    for number, node in enumerate(list(graph.nodes)):
        if node.target in DROPOUTS:
            _replace_dropout(network, graph, node, f"traced_dropout_{number}")
    return graph


def _replace_dropout(network: nn.Module, graph: fx.Graph, node: fx.Node, name: str) -> None:
    """Replace a call of functional.dropout, traced with training=False, by a module."""
    layer = DROPOUTS[node.target](node.kwargs.get("p", (*node.args, 0.5, 0.5)[1]))
    network.add_module(name, layer.eval())
    values = node.args[0] if node.args else node.kwargs["input"]
    with graph.inserting_before(node):
        new = graph.call_module(name, (values,))
    node.replace_all_uses_with(new)
    graph.erase_node(node)


def modules_around(node: fx.Node) -> list[str]:
    """Names of the modules that an operation is in, the outermost first."""
    names = [name for name, _ in (node.meta.get("nn_module_stack") or {}).values()]
    return [*names, str(node.target)] if node.op == "call_module" else names
