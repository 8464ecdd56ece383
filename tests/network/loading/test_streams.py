from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.network.loading.streams import CudaStreams, NoStreams, streams_of


def test_a_cpu_has_no_streams_and_copies_what_is_overwritten_later() -> None:
    streams = streams_of(torch.device("cpu"))
    assert isinstance(streams, NoStreams)
    pixels = torch.ones(3)
    copy, used = streams.upload(pixels)
    used.synchronize()
    pixels.zero_()
    assert copy.tolist() == [1, 1, 1]


class Log:
    """Stands in for torch.cuda and its streams; records what is called."""

    def __init__(self, calls: list[str], name: str) -> None:
        self.calls, self.name = calls, name

    def record_event(self) -> str:
        self.calls.append(f"{self.name}: event")
        return f"event of {self.name}"

    def wait_event(self, event: str) -> None:
        self.calls.append(f"{self.name} waits for {event}")

    def wait_stream(self, other: "Log") -> None:
        self.calls.append(f"{self.name} waits for {other.name}")

    def __enter__(self) -> None:
        self.calls.append(f"in {self.name}")

    def __exit__(self, *_: object) -> None:
        self.calls.append(f"out of {self.name}")


class Values:
    """A tensor that records."""

    shape, dtype = (2,), torch.float32

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def to(self, where: object, non_blocking: bool) -> "Values":
        self.calls.append(f"copy to {where}, {non_blocking=}")
        return self

    def copy_(self, _: object, non_blocking: bool) -> "Values":
        self.calls.append(f"copy to the host, {non_blocking=}")
        return self

    def record_stream(self, stream: Log) -> None:
        self.calls.append(f"recorded on {stream.name}")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is called of a torch.cuda without a GPU."""
    log: list[str] = []
    names = iter(["up", "down"])
    errors = iter([0, 2])
    runtime = SimpleNamespace(
        cudaHostRegister=lambda *_: next(errors),
        cudaHostUnregister=lambda address: log.append(f"unlocked {address}"),
    )
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: Log(log, next(names)))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: Log(log, "compute"))
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: Values(log))
    return log


def test_the_forward_pass_waits_for_the_copy_to_the_gpu(calls: list[str]) -> None:
    pixels: Any = Values(calls)
    _, used = CudaStreams("gpu").upload(pixels)  # type: ignore[arg-type]
    assert str(used) == "event of up"
    assert calls == [
        "in up",
        "copy to gpu, non_blocking=True",
        "out of up",
        "up: event",
        "compute waits for event of up",
        "recorded on compute",
    ]


def test_the_copy_back_waits_for_the_forward_pass(calls: list[str]) -> None:
    values: Any = Values(calls)
    _, ready = CudaStreams("gpu").download((values,))  # type: ignore[arg-type]
    assert str(ready) == "event of down"
    assert calls == [
        "down waits for compute",
        "in down",
        "copy to the host, non_blocking=True",
        "recorded on down",
        "out of down",
        "down: event",
    ]


def test_only_memory_that_was_locked_is_unlocked(calls: list[str]) -> None:
    streams = CudaStreams(torch.device("cpu"))
    locked, refused = torch.zeros(4), torch.zeros(4)
    streams.pin(locked)
    streams.pin(refused)  # the system locks no more: that is not an error
    streams.unpin(refused)
    streams.unpin(locked)
    streams.unpin(locked)
    assert calls == [f"unlocked {locked.data_ptr()}"]
