"""Heads: what takes the place of a network's end."""

import torch
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.params import Head


class OneLogit(nn.Module):
    """The second class's logit z (B, 1, ...) as the scores (0, z) of both classes, (B, 2, ...).

    Cross entropy of their softmax is binary cross entropy of z's sigmoid.
    """

    def forward(self, logit: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(logit), logit], dim=1)


def module_replaced(network: nn.Module, replace: str, last: str) -> str:
    """`model.replace` as a module's name.

    Raises:
        PipelineError: there is no such module.
    """
    name = last if replace == "last" else replace
    try:
        network.get_submodule(name)
    except AttributeError as error:
        tops = ", ".join(key for key, _ in network.named_children())
        raise PipelineError(
            f"model.replace={replace} names no layer: use last, or a module that ends the network, "
            f"of which the outermost are {tops}"
        ) from error
    return name


@torch.inference_mode()
def replace(
    network: nn.Module, name: str, head: Head, classes: int, size: int, seed: int
) -> None:  # fmt: skip
    """Put a fresh head in the place of the module `name`, its weights drawn from `seed`.

    Args:
        size: Side, in pixels, of the images the network will see; its shapes are tried out.

    Raises:
        PipelineError: what the module takes or gives is not for a head, or `one_logit` has more
            than two classes.
    """
    if head.one_logit and classes != 2:
        raise PipelineError(
            f"head.one_logit is for two classes, but there are {classes}: set head.one_logit=false"
        )
    taken, given = _shapes(network, name, size)
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new = _head(taken, given, head, classes, name)
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, new)
    if tuple(network.eval()(torch.zeros(2, 3, size, size)).shape) != (2, classes):
        raise PipelineError(
            f"model.replace={name} does not end the network: name the module that gives the scores"
        )
    new.train()


def _shapes(network: nn.Module, name: str, size: int) -> tuple[torch.Size, torch.Size]:
    """Of the input and the output of a module, for two images."""
    seen: list[tuple[torch.Size, torch.Size]] = []

    def look(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((inputs[0].shape, output.shape))

    handle = network.get_submodule(name).register_forward_hook(look)
    try:
        network.eval()(torch.zeros(2, 3, size, size))
    finally:
        handle.remove()
    if len(seen) != 1:
        raise PipelineError(f"model.replace={name} runs {len(seen)} times: a head runs once")
    return seen[0]


def _head(
    taken: torch.Size, given: torch.Size, head: Head, classes: int, name: str
) -> nn.Module:  # fmt: skip
    """A head for inputs of the shape `taken`, which gives as many dimensions as `given` has."""
    outputs = 1 if head.one_logit else classes
    before: list[nn.Module] = []
    if (
        len(taken) == 4 and taken[2:] != given[2:]
    ):  # a map goes in, and none, or one pixel, comes out
        before = [nn.AdaptiveAvgPool2d(1), *([nn.Flatten()] if len(given) == 2 else [])]
    elif len(taken) != len(given) or len(taken) not in {2, 4}:
        raise PipelineError(
            f"model.replace={name} takes {tuple(taken[1:])} and gives {tuple(given[1:])} per image,"
            " which no head does: name another module"
        )
    layer = nn.Linear if len(given) == 2 else _pointwise
    layers: list[nn.Module] = [layer(taken[1], outputs)]
    if head.kind == "mlp":
        layers = [
            layer(taken[1], head.hidden), nn.ReLU(), nn.Dropout(head.dropout),
            layer(head.hidden, outputs),
        ]  # fmt: skip
    layers = [*before, *layers, *([OneLogit()] if head.one_logit else [])]
    return nn.Sequential(*layers) if len(layers) > 1 else layers[0]


def _pointwise(before: int, after: int) -> nn.Module:
    return nn.Conv2d(before, after, kernel_size=1)
