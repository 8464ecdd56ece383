"""Random transforms whose result depends on a seed alone, in any thread."""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

GENERATOR_LOCK = Lock()  # the transforms draw from torch's global generator


def augment(pixels: Tensor, transforms: Sequence[Any], seed: int) -> Tensor:
    """The result of `v2.Compose(transforms)` after `torch.manual_seed(seed)`, to the last bit.

    Draws come from torch's global generator, under a lock; the transforms then run in parallel.
    """
    # torch.manual_seed also seeds every accelerator, which takes longer than the flip.
    state = torch.Generator().manual_seed(seed).get_state()
    for transform in transforms:
        with GENERATOR_LOCK, torch.random.fork_rng(devices=[]):
            torch.default_generator.set_state(state)
            apply = _draw(transform, pixels)
            state = torch.default_generator.get_state()
        pixels = apply(pixels)
    return pixels.contiguous()


def _draw(transform: Any, pixels: Tensor) -> Callable[[Tensor], Tensor]:
    """Draw a transform's random parameters; return the function that applies it with them."""
    if isinstance(transform, v2.RandomHorizontalFlip):
        flips = bool(torch.rand(1) < transform.p)
        return partial(transform.transform, params={}) if flips else _unchanged
    if isinstance(transform, v2.RandomResizedCrop | v2.RandomCrop | v2.RandomRotation):
        return partial(transform.transform, params=transform.make_params([pixels]))
    result: Tensor = transform(pixels)  # it draws while it computes
    return lambda _: result


def _unchanged(pixels: Tensor) -> Tensor:
    return pixels


def view_seed(seed: int, key: str, view: int) -> int:
    """The seed of an augmented view of the image `key`."""
    digest = hashlib.sha256(f"{seed}:{key}:{view}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # torch takes 63 bits
