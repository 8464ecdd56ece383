"""The frozen half of a network: from views of images to the inputs of the suffix."""

import copy
import hashlib
from collections.abc import Iterable, Iterator, Sequence
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
from pipeline.network.parallel_forward import DeviceForward, Tensors
from pipeline.network.sub_batch import sub_batch
from pipeline.network.views import Preprocess, Views

WINDOW_BYTES = 2**28  # of activations computed ahead of their use
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class FrozenPrefix:
    """uint8 (B, 3, S, S) -> float32 tensors (B, ...), the suffix's inputs, without gradients.

    An image's values depend neither on the other images nor on the number of threads: it always
    goes through the prefix in a padded batch of `sub_batch` images, on one thread of a CPU.
    """

    def __init__(
        self,
        cut: Cut,
        preprocess: Preprocess,
        devices: Sequence[torch.device],
        precision: str,
        dtype: str,
        compiled: bool = False,
    ) -> None:
        """
        Args:
            devices: That compute: all of one type. The first is the device of `__call__`.
            precision: As features.precision.
            dtype: What values are rounded to.
        """
        self.cut = cut
        self.preprocess = preprocess
        self.devices = list(devices)
        self.device = where = self.devices[0]
        self.sub_batch = sub_batch(where, cut, preprocess.size)
        self.precision = device.fastest(precision, where)
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.compiled = compiled
        self._fast: nn.Module | None = None
        self._shapes: list[tuple[int, ...]] | None = None
        self._device_forward: DeviceForward | None = None

    def activations(
        self, views: Views, order: Iterable[Sequence[int]], on_host: bool = False
    ) -> Iterator[Tensors]:
        """For each list of indices, tensors (B, ...): float32 on a device.

        Args:
            on_host: Whether they come in the host's memory instead, and in `dtype`.
        """
        self.prepare()
        if not self._is_queued:
            image_bytes = 4 * sum(map(prod, self.shapes()))  # float32
            window = max(1, min(parallel_forward.LOOKAHEAD, WINDOW_BYTES // image_bytes))
            tensors = parallel_forward.overlapped(
                views, order, self.__call__, self.device, window, self.sub_batch
            )
            if not on_host:
                return tensors
            return (tuple(value.to(self.dtype) for value in values) for values in tensors)
        if self._device_forward is None:
            twins = [self, *(self._twin(where) for where in self.devices[1:])]
            self._device_forward = DeviceForward(
                self.devices,
                [twin.__call__ for twin in twins],
                self.preprocess.size,
                self.sub_batch,
            )
        return self._device_forward(views, order, self.dtype if on_host else None)

    @property
    def _is_queued(self) -> bool:
        """Whether other processes decode for the devices; else each core decodes and computes."""
        return self.device.type != "cpu" or len(self.devices) > 1

    def _twin(self, where: torch.device) -> "FrozenPrefix":
        """The same prefix on another device."""
        twin = Cut(copy.deepcopy(self.cut.prefix), self.cut.suffix)
        prefix = FrozenPrefix(
            twin,
            self.preprocess,
            [where],
            self.precision,
            str(self.dtype).removeprefix("torch."),
            self.compiled,
        )
        prefix.sub_batch = self.sub_batch
        return prefix

    def close(self) -> None:
        """End the processes that decode; more activations start them again."""
        if self._device_forward is not None:
            self._device_forward.close()
            self._device_forward = None

    def __call__(self, pixels: Tensor, padded: bool = True) -> Tensors:
        """`padded=False` is for small, latency-critical batches: it is faster, and values may
        differ in the last digit."""
        with torch.inference_mode():
            images = self.preprocess.normalise(pixels.to(self.device, non_blocking=True))
            values = (images,) if self.cut.prefix is None else self._forward(images, padded)
        return tuple(value.clone() for value in values)  # autograd refuses inference tensors

    def _forward(self, images: Tensor, padded: bool) -> Tensors:
        self.prepare()
        assert self._fast is not None
        count = len(images)
        if padded:
            images = functional.pad(images, (0, 0, 0, 0, 0, 0, 0, self.sub_batch - count))
        with self._autocast():
            values = self._fast(images.contiguous(memory_format=torch.channels_last))
        return tuple(value[:count].to(self.dtype).float() for value in values)

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "32-true":
            return nullcontext()
        return torch.autocast(self.device.type, AUTOCAST[self.precision])

    def prepare(self) -> None:
        """Build the fastest form of the prefix; later calls do nothing."""
        if self.cut.prefix is None or self._fast is not None:
            return
        prefix = self.cut.prefix
        if isinstance(prefix, fx.GraphModule):
            # Fold batch norms into their convolutions: the same function, fewer passes.
            prefix = fuse(prefix, no_trace=True)
        prefix = channels_last(prefix.to(self.device))
        if self.precision in AUTOCAST and prefix is not self.cut.prefix:
            for layer in prefix.modules():  # autocast would cast them in every pass
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.to(AUTOCAST[self.precision])
        self._fast = prefix
        if self.compiled:
            compiled: Any = torch.compile(prefix)
            self._fast = compiled
            with device.one_thread_each():  # compile now, not in several threads
                self(torch.zeros(1, 3, self.preprocess.size, self.preprocess.size).byte())

    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the tensors at the cut, per image."""
        if self._shapes is None:
            self._shapes = self._try_shapes()
        return self._shapes

    def _try_shapes(self) -> list[tuple[int, ...]]:
        size = self.preprocess.size
        if self.cut.prefix is None:
            return [(3, size, size)]
        where = next(self.cut.prefix.parameters(), torch.zeros(0)).device
        with torch.inference_mode():
            values = self.cut.prefix(torch.zeros(1, 3, size, size, device=where))
        return [tuple(value.shape[1:]) for value in values]

    def digest(self) -> str:
        """Digest of the prefix's operations and weights, in hex; "" if nothing is frozen."""
        prefix = self.cut.prefix
        if prefix is None:
            return ""
        code = prefix.code if isinstance(prefix, fx.GraphModule) else ""
        facts = f"{code} {prefix} {weights.digest(prefix.state_dict())}"
        return hashlib.sha256(facts.encode()).hexdigest()
