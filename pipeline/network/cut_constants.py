"""Values at a cut that are not per image: batch sizes, constants."""

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from pipeline.core.errors import PipelineError

TracedPair = tuple[Any, Any]
"""A value for two images, and for three."""


def unchanging(
    prefix: fx.GraphModule, crossing: list[fx.Node], size: int, first: str
) -> dict[fx.Node, TracedPair]:
    """Values that the suffix needs, but can compute itself: constants, and batch sizes.

    Args:
        prefix: float32 (B, 3, S, S) -> the values of `crossing`.
        size: S, in pixels.
        first: The module before which the network is cut.

    Raises:
        PipelineError: a value is neither constant nor one tensor per image.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        two, three = (prefix(torch.rand(n, 3, size, size, generator=generator)) for n in (2, 3))
    pairs = dict(zip(crossing, zip(two, three, strict=True), strict=True))
    constants = {node: pair for node, pair in pairs.items() if not _is_per_image(*pair)}
    if len(constants) == len(pairs) or not all(_is_constant(*pair) for pair in constants.values()):
        raise PipelineError(
            f"the network cannot be cut at model.trainable={first}: a value that crosses there "
            "is not one tensor per image; choose a module further out"
        )
    return constants


def _is_per_image(two: Any, three: Any) -> bool:
    return isinstance(two, Tensor) and two.shape[:1] == (2,) and three.shape == (3, *two.shape[1:])


def _is_constant(two: Any, three: Any) -> bool:
    """Whether it is the same for any images, or an integer in proportion to their number."""
    if isinstance(two, tuple | list):
        return len(two) == len(three) and all(map(_is_constant, two, three))
    if isinstance(two, Tensor):
        return torch.equal(two, three)
    return bool(two == three or (type(two) is int and 3 * two == 2 * three))


def constant(
    network: nn.Module, graph: fx.Graph, carried: fx.Node, name: str, pair: TracedPair
) -> Any:
    """The argument that replaces such a value in the suffix.

    Args:
        graph: The suffix's, so far.
        carried: A node of it that is one tensor per image.
        name: Of the buffer that stores a tensor; it is in no state dict.
    """
    two, three = pair
    if isinstance(two, tuple | list):
        items = enumerate(zip(two, three, strict=True))
        return tuple(constant(network, graph, carried, f"{name}_{at}", item) for at, item in items)
    if isinstance(two, Tensor):
        network.register_buffer(name, two, persistent=False)
        return graph.get_attr(name)
    if two == three:
        return two
    count = graph.call_method("size", (carried, 0))
    return graph.call_function(operator.mul, (count, two // 2))
