"""The frozen part at work: from views of images to what crosses the cut."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional

from pipeline.network import device, parallel_forward, weights
from pipeline.network.cut import Cut
from pipeline.network.memory_format import channels_last
from pipeline.network.parallel_forward import SUB_BATCH, Tensors
from pipeline.network.views import Preprocess, Views

WINDOW_BYTES = 2**28  # of activations that are computed before they are used
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class FrozenPrefix:
    """uint8 (B, 3, S, S) -> float32 tensors (B, ...), the suffix's inputs, without gradients.

    An image's values depend on neither its company nor the number of threads: it always goes
    through the prefix in a padded batch of `PART` images, on one thread of a CPU.
    """

    def __init__(
        self,
        cut: Cut,
        preprocess: Preprocess,
        where: torch.device,
        precision: str,
        dtype: str,
        compiled: bool = False,
    ) -> None:
        """`precision` is features.precision; values are rounded to `dtype`."""
        self.cut = cut
        self.preprocess = preprocess
        self.device = where
        self.precision = device.fastest(precision, where)
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.compiled = compiled
        self._fast: nn.Module | None = None
        self._shapes: list[tuple[int, ...]] | None = None

    def activations(self, seen: Views, order: Sequence[Sequence[int]]) -> Iterator[Tensors]:
        """For each list of indices, tensors (B, ...) on the device."""
        self.prepare()
        image = 4 * sum(map(prod, self.shapes()))  # bytes of what crosses
        window = max(1, min(parallel_forward.LOOKAHEAD, WINDOW_BYTES // image))
        return parallel_forward.overlapped(seen, order, self.__call__, self.device, window)

    def __call__(self, pixels: Tensor, padded: bool = True) -> Tensors:
        """`padded=False` is for a few images that are in a hurry: their values may then differ in
        the last digit from those that they have in company."""
        with torch.inference_mode():
            images = self.preprocess.normalise(pixels.to(self.device, non_blocking=True))
            values = (images,) if self.cut.prefix is None else self._forward(images, padded)
        return tuple(value.clone() for value in values)  # others may not enter backward

    def _forward(self, images: Tensor, padded: bool) -> Tensors:
        self.prepare()
        assert self._fast is not None
        count = len(images)
        if padded:
            images = functional.pad(images, (0, 0, 0, 0, 0, 0, 0, SUB_BATCH - count))
        with self._autocast():
            values = self._fast(images.contiguous(memory_format=torch.channels_last))
        return tuple(value[:count].to(self.dtype).float() for value in values)

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "32-true":
            return nullcontext()
        return torch.autocast(self.device.type, AUTOCAST[self.precision])

    def prepare(self) -> None:
        """The prefix in the form that computes fastest, once, when it is first needed."""
        if self.cut.prefix is None or self._fast is not None:
            return
        prefix = self.cut.prefix
        if isinstance(prefix, fx.GraphModule):
            # Norms that follow a convolution become part of it: the same function, fewer passes.
            prefix = fuse(prefix, no_trace=True)
        prefix = channels_last(prefix.to(self.device))
        if self.precision in AUTOCAST and prefix is not self.cut.prefix:
            for layer in prefix.modules():  # once, as autocast would in every pass
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.to(AUTOCAST[self.precision])
        self._fast = prefix
        if self.compiled:
            compiled: Any = torch.compile(prefix)
            self._fast = compiled
            with device.one_thread_each():  # now, and not in many threads
                self(torch.zeros(1, 3, self.preprocess.size, self.preprocess.size).byte())

    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of what crosses the cut, per image."""
        if self._shapes is None:
            self._shapes = self._found_shapes()
        return self._shapes

    def _found_shapes(self) -> list[tuple[int, ...]]:
        size = self.preprocess.size
        if self.cut.prefix is None:
            return [(3, size, size)]
        with torch.inference_mode():  # as it came, before it is prepared
            like = next(self.cut.prefix.parameters(), torch.zeros(0))
            values = self.cut.prefix(torch.zeros(1, 3, size, size, device=like.device))
        return [tuple(value.shape[1:]) for value in values]

    def digest(self) -> str:
        """Identity of the prefix: its operations and its weights, in hex."""
        prefix = self.cut.prefix
        if prefix is None:
            return ""
        code = prefix.code if isinstance(prefix, fx.GraphModule) else ""
        facts = f"{code} {prefix} {weights.digest(prefix.state_dict())}"
        return hashlib.sha256(facts.encode()).hexdigest()
