"""Inputs of the network's last layer, image by image."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from pipeline.network.evaluated_suffix import last_layer, pool

MAX_IMAGES = 1000  # on a map: t-SNE takes seconds for as many


@contextmanager
def capture_inputs(head: nn.Module) -> Iterator[list[Tensor]]:
    """Within the block, collect the inputs, (B, F), of the last linear or convolution layer.

    Of the first `MAX_IMAGES` images, which are the ones on the map, and those of their batches.
    """
    batches: list[Tensor] = []

    def append(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        if sum(map(len, batches)) >= MAX_IMAGES:
            return
        batches.append(pool(inputs[0].detach()).cpu())

    handle = last_layer(head).register_forward_pre_hook(append)
    try:
        yield batches
    finally:
        handle.remove()
