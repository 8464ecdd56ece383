"""What crosses a cut without being an image's own: sizes, numbers of images, constants."""

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from pipeline.core.errors import PipelineError

Pair = tuple[Any, Any]
"""A value for two images, and for three."""


def unchanging(
    prefix: fx.GraphModule, crossing: list[fx.Node], size: int, first: str
) -> dict[fx.Node, Pair]:
    """Values that cross, but need not be carried: constants, and numbers of images.

    Args:
        prefix: float32 (B, 3, S, S) -> the values of `crossing`.
        size: S, in pixels.
        first: The module that the cut is before.

    Raises:
        PipelineError: a value is neither this nor one tensor per image.
    """
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        two, three = (prefix(torch.rand(n, 3, size, size, generator=chance)) for n in (2, 3))
    pairs = dict(zip(crossing, zip(two, three, strict=True), strict=True))
    known = {node: pair for node, pair in pairs.items() if not _per_image(*pair)}
    if len(known) == len(pairs) or not all(_does_not_vary(*pair) for pair in known.values()):
        raise PipelineError(
            f"the network cannot be cut at model.trainable={first}: a value that crosses there "
            "is not one tensor per image; choose a module further out"
        )
    return known


def _per_image(two: Any, three: Any) -> bool:
    return isinstance(two, Tensor) and two.shape[:1] == (2,) and three.shape == (3, *two.shape[1:])


def _does_not_vary(two: Any, three: Any) -> bool:
    """With the images, other than in proportion to their number."""
    if isinstance(two, tuple | list):
        return len(two) == len(three) and all(map(_does_not_vary, two, three))
    if isinstance(two, Tensor):
        return torch.equal(two, three)
    return bool(two == three or (type(two) is int and 3 * two == 2 * three))


def constant(network: nn.Module, graph: fx.Graph, carried: fx.Node, name: str, pair: Pair) -> Any:
    """The argument of the suffix's operations that stands for such a value.

    Args:
        graph: The suffix's, so far.
        carried: A value of it that is one tensor per image.
        name: Of the buffer that a tensor becomes, which no state dict holds.
    """
    two, three = pair
    if isinstance(two, tuple | list):
        parts = enumerate(zip(two, three, strict=True))
        return tuple(constant(network, graph, carried, f"{name}_{at}", part) for at, part in parts)
    if isinstance(two, Tensor):
        network.register_buffer(name, two, persistent=False)
        return graph.get_attr(name)
    if two == three:
        return two
    count = graph.call_method("size", (carried, 0))
    return graph.call_function(operator.mul, (count, two // 2))
