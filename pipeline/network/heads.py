"""Heads: new layers that replace the end of a network."""

import torch
from torch import Tensor, nn
from torchvision.ops import Permute

from pipeline.core.errors import PipelineError
from pipeline.params import HeadParams

# What a network raises with a head in the place of a module that does not end it.
NOT_THE_END = (
    RuntimeError,  # a convolution for another number of channels follows
    TypeError,  # attention, which is called with a position bias
    AttributeError,  # an embedding of patches, which is asked for its grid
)


class OneLogit(nn.Module):
    """The second class's logit z (B, 1, ...) as the scores (0, z) of both classes, (B, 2, ...).

    Cross entropy of their softmax is binary cross entropy of z's sigmoid.
    """

    def forward(self, logit: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(logit), logit], dim=1)


def module_replaced(network: nn.Module, replace: str, last: str) -> str:
    """The name of the module that `model.replace` stands for.

    Raises:
        PipelineError: there is no such module.
    """
    name = last if replace == "last" else replace
    try:
        network.get_submodule(name)
    except AttributeError as error:
        outermost = ", ".join(key for key, _ in network.named_children())
        raise PipelineError(
            f"model.replace={replace} names no layer: use last, or a module that ends the network; "
            f"the outermost are {outermost}"
        ) from error
    return name


@torch.no_grad()
def replace(
    network: nn.Module, name: str, head: HeadParams, classes: int, size: int, seed: int
) -> None:
    """Replace the module `name` by a new head, with weights drawn from `seed`.

    Args:
        size: Side, in pixels, of the images that the network takes.

    Raises:
        PipelineError: a head cannot replace this module, or `one_logit` is set for more than two
            classes or for a network that changes its score.
    """
    if head.one_logit and classes != 2:
        raise PipelineError(
            f"head.one_logit is for two classes, but there are {classes}: set head.one_logit=false"
        )
    inputs, outputs = _shapes(network, name, size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new = _head(network.get_submodule(name), inputs, outputs, head, classes, name)
    network.eval()
    if head.one_logit:
        _put(network, name, _MinusOne(outputs))
        if not torch.equal(_scores(network, name, 2, size), torch.tensor([[0.0, -1.0]] * 2)):
            raise PipelineError(
                f"head.one_logit: the network changes what model.replace={name} returns, and a "
                "logit must stay as it is: name the module around it that returns the scores"
            )
    _put(network, name, new)
    _scores(network, name, classes, size)
    new.train()


class _MinusOne(nn.Module):
    """The output of `OneLogit` for a logit of -1, to check that it is the network's output."""

    def __init__(self, outputs: torch.Size) -> None:
        super().__init__()
        self.ones = (1,) * (len(outputs) - 2)

    def forward(self, values: Tensor) -> Tensor:
        return torch.tensor([[0.0, -1.0]] * len(values)).reshape(len(values), 2, *self.ones)


def _put(network: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, new)


def _scores(network: nn.Module, name: str, classes: int, size: int) -> Tensor:
    """The scores of two blank images, (2, classes)."""
    try:
        scores: Tensor = network(torch.zeros(2, 3, size, size))
    except NOT_THE_END:
        scores = torch.empty(0)
    if tuple(scores.shape) != (2, classes):
        raise PipelineError(
            f"model.replace={name} does not end the network: "
            "name the module that returns the scores"
        )
    return scores


def _shapes(network: nn.Module, name: str, size: int) -> tuple[torch.Size, torch.Size]:
    """The shapes of a module's input and output, for two images."""
    calls: list[tuple[object, object]] = []

    def hook(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        calls.append((inputs[0] if inputs else None, output))

    handle = network.get_submodule(name).register_forward_hook(hook)
    try:
        network.eval()(torch.zeros(2, 3, size, size))
    finally:
        handle.remove()
    if len(calls) != 1:
        raise PipelineError(f"model.replace={name} runs {len(calls)} times: a head runs once")
    values, output = calls[0]
    if not (isinstance(values, Tensor) and isinstance(output, Tensor)):
        raise PipelineError(
            f"model.replace={name} does not take one tensor and return one: name another module"
        )
    return values.shape, output.shape


def _head(
    old: nn.Module,
    inputs: torch.Size,
    outputs: torch.Size,
    head: HeadParams,
    classes: int,
    name: str,
) -> nn.Module:
    """A head for inputs of a shape, with outputs of as many dimensions as `outputs`."""
    scores = 1 if head.one_logit else classes
    before: list[nn.Module] = []
    if len(inputs) == 4 and len(outputs) == 2 and _has_channels_last(old, inputs):
        before, inputs = [Permute([0, 3, 1, 2])], torch.Size([inputs[0], inputs[3], *inputs[1:3]])
    if len(inputs) == 4 and inputs[2:] != outputs[2:]:  # maps are pooled to one pixel, or to none
        before += [nn.AdaptiveAvgPool2d(1), *([nn.Flatten()] if len(outputs) == 2 else [])]
    elif len(inputs) != len(outputs) or len(inputs) not in {2, 4}:
        raise PipelineError(
            f"model.replace={name} takes {tuple(inputs[1:])} and returns {tuple(outputs[1:])} per "
            "image, which no head does: name another module"
        )
    layer = nn.Linear if len(outputs) == 2 else _pointwise
    layers: list[nn.Module] = [layer(inputs[1], scores)]
    if head.kind == "mlp":
        layers = [
            layer(inputs[1], head.hidden),
            nn.ReLU(),
            nn.Dropout(head.dropout),
            layer(head.hidden, scores),
        ]
    layers = [*before, *layers, *([OneLogit()] if head.one_logit else [])]
    return nn.Sequential(*layers) if len(layers) > 1 else layers[0]


def _has_channels_last(old: nn.Module, inputs: torch.Size) -> bool:
    """Whether the channels of a module's maps are in the last dimension."""
    layers = [module for module in old.modules() if isinstance(module, nn.Linear)]
    return bool(layers) and layers[0].in_features == inputs[3] != inputs[1]


def _pointwise(before: int, after: int) -> nn.Module:
    return nn.Conv2d(before, after, kernel_size=1)
