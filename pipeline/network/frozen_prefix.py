"""The frozen half of a network: from views of images to the inputs of the suffix."""

import copy
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from math import prod

import torch
from torch import Tensor, fx

from pipeline.network import device, engines, weights
from pipeline.network.cut import Cut
from pipeline.network.engines import Choice, Workload
from pipeline.network.evaluated_suffix import EvaluatedSuffix
from pipeline.network.loading import parallel_forward
from pipeline.network.loading.parallel_forward import DeviceForward, Tensors
from pipeline.network.loading.sub_batch import sub_batch
from pipeline.network.views import Preprocess, Views

WINDOW_BYTES = 2**28  # of activations computed ahead of their use


class FrozenPrefix:
    """uint8 (B, 3, S, S) -> float32 tensors (B, ...), the suffix's inputs, without gradients.

    An image's values depend neither on the other images nor on the number of threads of a CPU:
    OpenVINO computes each image alone, torch a padded batch of `sub_batch` images on one thread.
    """

    def __init__(
        self,
        cut: Cut,
        preprocess: Preprocess,
        devices: Sequence[torch.device],
        precision: str,
        dtype: str,
        compiled: bool = False,
        engine: str | None = None,
        padded: bool = True,
    ) -> None:
        """
        Args:
            devices: That compute: all of one type. The first is the device of `__call__`.
            precision: As features.precision.
            dtype: What values are rounded to.
            engine: The name of the engine that computed before, None for the fastest.
            padded: Whether torch pads batches to `sub_batch` images. Not padding is faster for
                small, urgent batches; values may then differ in the last digit.
        """
        self.cut = cut
        self.preprocess = preprocess
        self.devices = list(devices)
        self.device = where = self.devices[0]
        self.sub_batch = sub_batch(where, cut, preprocess.size)
        self.precision = device.fastest(precision, where)
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.compiled = compiled
        self._recorded = engine
        self._padded = padded
        self._choice: Choice | None = None
        self._shapes: list[tuple[int, ...]] | None = None
        self._device_forward: DeviceForward | None = None
        self._suffix: EvaluatedSuffix | None = None

    def followed_by(self, suffix: EvaluatedSuffix) -> "FrozenPrefix":
        """The same with a suffix behind it: values are then what that computes of each image."""
        whole = copy.copy(self)
        whole._suffix, whole._device_forward = suffix, None
        return whole

    def activations(
        self, views: Views, order: Iterable[Sequence[int]], on_host: bool = False
    ) -> Iterator[Tensors]:
        """For each list of indices, tensors (B, ...): float32 on a device.

        Args:
            on_host: Whether they come in the host's memory instead, and in `dtype`.
        """
        self.prepare()  # before threads use it
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
        twin = copy.copy(self)
        twin.cut = Cut(copy.deepcopy(self.cut.prefix), self.cut.suffix)
        twin.devices, twin.device = [where], where
        twin._recorded, twin._choice = self.engine or None, None
        twin._device_forward = None
        twin._suffix = self._suffix.on(where) if self._suffix else None
        return twin

    def close(self) -> None:
        """End the processes that decode; more activations start them again."""
        if self._device_forward is not None:
            self._device_forward.close()
            self._device_forward = None

    def __call__(self, pixels: Tensor) -> Tensors:
        with torch.inference_mode():
            choice = self.prepare()
            if choice is None:
                images = self.preprocess.normalise(pixels.to(self.device, non_blocking=True))
                values: Tensors = (images,)
            else:
                computed = choice.engine(pixels)
                values = tuple(value.to(self.dtype).float() for value in computed)
            if self._suffix is not None:
                values = self._suffix(values)
        return tuple(value.clone() for value in values)  # autograd refuses inference tensors

    @property
    def engine(self) -> str:
        """The name of the engine that computes, "" if nothing is frozen."""
        choice = self.prepare()
        return choice.engine.name if choice else ""

    @property
    def why(self) -> str:
        """Why no faster engine computes, a clause, or ""."""
        choice = self.prepare()
        return choice.why if choice else ""

    def prepare(self) -> Choice | None:
        """Build the engine, if anything is frozen; later calls return the same."""
        if self._choice is None and self.cut.prefix is not None:
            workload = Workload(
                self.cut.prefix,
                self.preprocess,
                self.device,
                self.precision,
                self.sub_batch if self._padded else 1,
                self.compiled,
                torch.get_num_threads(),
            )
            with device.one_thread_each():  # the passes of one image that this takes
                self._choice = engines.choose(workload, self._recorded)
        return self._choice

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
