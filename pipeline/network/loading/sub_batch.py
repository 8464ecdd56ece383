"""How many images pass a network at a time, which decides the last digits of their values."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.network.cut import Cut

ON_CPU = 16  # for each of several threads; more do not fit its caches
SMALLEST, LARGEST = 16, 512  # on an accelerator
USUAL_MEMORY = 16 * 2**30  # bytes, of an accelerator that does not say
LIVE_TENSORS = 4  # in memory at a time, of the size of the largest one
SHARE = 4  # of the memory, one part in four, for the tensors of a batch


def sub_batch(where: torch.device, network_cut: Cut, size: int) -> int:
    """The number of images that pass a network on a device at a time, a power of two.

    It depends on the kind of device and on the network alone, not on the memory that is free.

    Args:
        size: Side of the images, in pixels.
    """
    if where.type == "cpu":
        return ON_CPU
    image_bytes = LIVE_TENSORS * 4 * largest_tensor(network_cut, size)  # float32
    most = _memory(where) // SHARE // max(image_bytes, 1)
    return int(max(SMALLEST, min(LARGEST, 2 ** (int(most).bit_length() - 1 if most else 0))))


def _memory(where: torch.device) -> int:
    if where.type == "cuda":
        return int(torch.cuda.get_device_properties(where).total_memory)
    return USUAL_MEMORY


@torch.inference_mode()
def largest_tensor(network_cut: Cut, size: int) -> int:
    """The number of values of the largest tensor that a module computes, per image."""
    halves = [half for half in (network_cut.prefix, network_cut.suffix) if half is not None]
    largest = 3 * size * size

    def measure(_: nn.Module, __: Any, output: Any) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.numel())

    modules = {module for half in halves for module in half.modules()}
    handles = [module.register_forward_hook(measure) for module in modules]
    values: tuple[Tensor, ...] = (torch.zeros(1, 3, size, size),)
    with evaluation_mode(modules):
        for half in halves:
            where = next(half.parameters(), torch.zeros(0)).device
            outputs = half(*(value.to(where) for value in values))
            values = outputs if isinstance(outputs, tuple) else (outputs,)
    for handle in handles:
        handle.remove()
    return largest


@contextmanager
def evaluation_mode(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Within the block, each of the modules is in evaluation mode."""
    before = {module: module.training for module in modules}
    for module in before:
        module.training = False
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training
