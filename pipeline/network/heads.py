"""Heads: what takes the place of a network's end."""

import torch
from torch import Tensor, nn
from torchvision.ops import Permute

from pipeline.core.errors import PipelineError
from pipeline.params import HeadParams


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


@torch.no_grad()
def replace(
    network: nn.Module, name: str, head: HeadParams, classes: int, size: int, seed: int
) -> None:
    """Put a fresh head in the place of the module `name`, its weights drawn from `seed`.

    Args:
        size: Side, in pixels, of the images the network will see; its shapes are tried out.

    Raises:
        PipelineError: what the module takes or gives is not for a head, or `one_logit` has more
            than two classes or a network that changes its score.
    """
    if head.one_logit and classes != 2:
        raise PipelineError(
            f"head.one_logit is for two classes, but there are {classes}: set head.one_logit=false"
        )
    taken, given = _shapes(network, name, size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new = _head(network.get_submodule(name), taken, given, head, classes, name)
    network.eval()
    if head.one_logit:
        _put(network, name, _Below(given))
        if not torch.equal(_scores(network, name, 2, size), torch.tensor([[0.0, -1.0]] * 2)):
            raise PipelineError(
                f"head.one_logit: the network changes what model.replace={name} gives, and a logit "
                "must stay as it is: name the module around it that gives the scores"
            )
    _put(network, name, new)
    _scores(network, name, classes, size)
    new.train()


class _Below(nn.Module):
    """The logit -1, as it comes out of `OneLogit`: does the network let it through?"""

    def __init__(self, given: torch.Size) -> None:
        super().__init__()
        self.ones = (1,) * (len(given) - 2)

    def forward(self, values: Tensor) -> Tensor:
        return torch.tensor([[0.0, -1.0]] * len(values)).reshape(len(values), 2, *self.ones)


def _put(network: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, new)


def _scores(network: nn.Module, name: str, classes: int, size: int) -> Tensor:
    """Of two blank images, (2, classes)."""
    try:
        scores: Tensor = network(torch.zeros(2, 3, size, size))
    except (RuntimeError, TypeError, ValueError, AttributeError):
        scores = torch.empty(0)
    if tuple(scores.shape) != (2, classes):
        raise PipelineError(
            f"model.replace={name} does not end the network: name the module that gives the scores"
        )
    return scores


def _shapes(network: nn.Module, name: str, size: int) -> tuple[torch.Size, torch.Size]:
    """Of the input and the output of a module, for two images."""
    seen: list[tuple[object, object]] = []

    def look(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        seen.append((inputs[0] if inputs else None, output))

    handle = network.get_submodule(name).register_forward_hook(look)
    try:
        network.eval()(torch.zeros(2, 3, size, size))
    finally:
        handle.remove()
    if len(seen) != 1:
        raise PipelineError(f"model.replace={name} runs {len(seen)} times: a head runs once")
    taken, given = seen[0]
    if not (isinstance(taken, Tensor) and isinstance(given, Tensor)):
        raise PipelineError(
            f"model.replace={name} does not take one tensor and give one: name another module"
        )
    return taken.shape, given.shape


def _head(
    old: nn.Module, taken: torch.Size, given: torch.Size, head: HeadParams, classes: int, name: str
) -> nn.Module:
    """A head for inputs of the shape `taken`, which gives as many dimensions as `given` has."""
    outputs = 1 if head.one_logit else classes
    before: list[nn.Module] = []
    if len(taken) == 4 and len(given) == 2 and _channels_last(old, taken):
        before, taken = [Permute([0, 3, 1, 2])], torch.Size([taken[0], taken[3], *taken[1:3]])
    if len(taken) == 4 and taken[2:] != given[2:]:  # a map goes in; none, or one pixel, comes out
        before += [nn.AdaptiveAvgPool2d(1), *([nn.Flatten()] if len(given) == 2 else [])]
    elif len(taken) != len(given) or len(taken) not in {2, 4}:
        raise PipelineError(
            f"model.replace={name} takes {tuple(taken[1:])} and gives {tuple(given[1:])} per image,"
            " which no head does: name another module"
        )
    layer = nn.Linear if len(given) == 2 else _pointwise
    layers: list[nn.Module] = [layer(taken[1], outputs)]
    if head.kind == "mlp":
        layers = [
            layer(taken[1], head.hidden),
            nn.ReLU(),
            nn.Dropout(head.dropout),
            layer(head.hidden, outputs),
        ]
    layers = [*before, *layers, *([OneLogit()] if head.one_logit else [])]
    return nn.Sequential(*layers) if len(layers) > 1 else layers[0]


def _channels_last(old: nn.Module, taken: torch.Size) -> bool:
    """Whether a module that takes maps finds their channels in the last dimension."""
    layers = [each for each in old.modules() if isinstance(each, nn.Linear)]
    return bool(layers) and layers[0].in_features == taken[3] != taken[1]


def _pointwise(before: int, after: int) -> nn.Module:
    return nn.Conv2d(before, after, kernel_size=1)
