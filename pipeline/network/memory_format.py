"""How weights lie in memory."""

import torch
from torch import nn


def channels_last(module: nn.Module) -> nn.Module:
    """`module`, with its weights of four dimensions as convolutions like them.

    `Module.to` would also try tensors of five, such as some attention masks, and fail.
    """
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return module
