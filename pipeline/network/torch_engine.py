"""The frozen prefix in torch: on an accelerator, and where OpenVINO cannot run it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from pipeline.network import device
from pipeline.network.loading.parallel_forward import Tensors
from pipeline.network.memory_format import channels_last
from pipeline.network.views import Preprocess

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class TorchEngine:
    """uint8 (B, 3, S, S) -> tensors (B, ...), in batches padded to `pad_to` images.

    Full batches on one thread of a CPU give an image values that depend neither on the other
    images nor on the number of threads.
    """

    name = "torch"

    def __init__(
        self,
        prefix: nn.Module,
        preprocess: Preprocess,
        where: torch.device,
        precision: str,
        pad_to: int,
        compiled: bool = False,
    ) -> None:
        """`prefix` is moved to `where`; a graph's layers are cast to the precision in place."""
        self._preprocess = preprocess
        self._device = where
        self._precision = precision
        self._pad_to = pad_to
        prefix = channels_last(prefix.to(where))
        if precision in AUTOCAST and isinstance(prefix, fx.GraphModule):
            for layer in prefix.modules():  # autocast would cast them in every pass
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.to(AUTOCAST[precision])
        self._forward: Callable[[Tensor], Tensors] = prefix
        if compiled:
            compiled_prefix: Any = torch.compile(prefix)
            self._forward = compiled_prefix
            with device.one_thread_each(), torch.inference_mode():
                # Compile now, not in several threads.
                self(torch.zeros(1, 3, preprocess.size, preprocess.size).byte())

    def __call__(self, pixels: Tensor) -> Tensors:
        images = self._preprocess.normalise(pixels.to(self._device, non_blocking=True))
        count = len(images)
        images = functional.pad(images, (0, 0, 0, 0, 0, 0, 0, max(0, self._pad_to - count)))
        with self._autocast():
            values = self._forward(images.contiguous(memory_format=torch.channels_last))
        return tuple(value[:count] for value in values)

    def _autocast(self) -> AbstractContextManager[object]:
        if self._precision == "32-true":
            return nullcontext()
        return torch.autocast(self._device.type, AUTOCAST[self._precision])
