"""Copies to and from a device that run beside its forward passes."""

from contextlib import suppress
from typing import Protocol

import torch
from torch import Tensor

FOR_ALL_GPUS = 1  # cudaHostRegisterPortable


class Event(Protocol):
    """A moment in the work of a device."""

    def synchronize(self) -> None:
        """Wait until the device has reached it."""
        ...


class Streams(Protocol):
    """Queues of a device: one for copies to it, one that computes, one for copies back."""

    def upload(self, pixels: Tensor) -> tuple[Tensor, Event]:
        """A copy on the device, for what is computed next; and when `pixels` may be overwritten."""
        ...

    def download(self, values: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Event]:
        """Copies in the memory of the host, and when they are complete."""
        ...

    def pin(self, memory: Tensor, /) -> None:
        """Lock the pages of `memory`: only then do copies run beside other work."""
        ...

    def pinned(self, values: Tensor) -> Tensor:
        """The same values in page-locked memory."""
        ...

    def unpin(self, memory: Tensor, /) -> None: ...


class Reached:
    """An event that has already happened."""

    def synchronize(self) -> None:
        return


class NoStreams:
    """Of a device that copies in order with what it computes: the CPU, or a Mac's GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def upload(self, pixels: Tensor) -> tuple[Tensor, Event]:
        if self._device.type == "cpu":
            return pixels.clone(), Reached()  # the memory is overwritten by later views
        return pixels.to(self._device), Reached()

    def download(self, values: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Event]:
        return tuple(value.cpu() for value in values), Reached()

    def pin(self, _memory: Tensor) -> None:
        return

    def pinned(self, values: Tensor) -> Tensor:
        return values

    def unpin(self, _memory: Tensor) -> None:
        return


class CudaStreams:
    """Of an Nvidia or AMD GPU. What computes is the current stream."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._up = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._down = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pinned: set[int] = set()  # addresses

    def upload(self, pixels: Tensor) -> tuple[Tensor, Event]:
        compute = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._up):
            copy = pixels.to(self._device, non_blocking=True)
        uploaded = self._up.record_event()
        compute.wait_event(uploaded)
        copy.record_stream(compute)  # its memory is not reused before the forward pass has ended
        return copy, uploaded

    def download(self, values: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Event]:
        self._down.wait_stream(torch.cuda.current_stream(self._device))
        copies = []
        with torch.cuda.stream(self._down):
            for value in values:
                copy = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
                copies.append(copy.copy_(value, non_blocking=True))
                value.record_stream(self._down)
        return tuple(copies), self._down.record_event()

    def pin(self, memory: Tensor) -> None:
        runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        if int(runtime.cudaHostRegister(memory.data_ptr(), memory.nbytes, FOR_ALL_GPUS)) == 0:
            self._pinned.add(memory.data_ptr())
            return
        # The system locks no more memory: copies are slower, but right. Take the error out of
        # CUDA, or the next operation would raise it.
        with suppress(RuntimeError):
            torch.zeros(1, device=self._device)

    def pinned(self, values: Tensor) -> Tensor:
        return values.pin_memory()

    def unpin(self, memory: Tensor) -> None:
        if memory.data_ptr() in self._pinned:
            self._pinned.remove(memory.data_ptr())
            torch.cuda.cudart().cudaHostUnregister(memory.data_ptr())  # type: ignore[no-untyped-call]


def streams_of(device: torch.device) -> Streams:
    return CudaStreams(device) if device.type == "cuda" else NoStreams(device)
