"""The memory format of weights."""

import torch
from torch import nn


def channels_last(module: nn.Module) -> nn.Module:
    """`module`, with its tensors of four dimensions in channels-last order, in place.

    `Module.to` would fail on tensors of five dimensions, such as some attention masks.
    """
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return module
