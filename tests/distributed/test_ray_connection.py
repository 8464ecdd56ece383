"""Connecting to a cluster, with something that takes Ray's place."""

import socket
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from pipeline.core.errors import PipelineError
from pipeline.distributed import ray_connection
from pipeline.distributed.ray_connection import connected


@pytest.fixture
def address() -> Iterator[str]:
    """Where something listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"ray://127.0.0.1:{server.getsockname()[1]}"


class FakeRay:
    """Its `init` raises some errors before it succeeds."""

    exceptions = SimpleNamespace(RayError=ZeroDivisionError)

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def init(self, **_: object) -> None:
        if self.errors:
            raise self.errors.pop(0)

    def shutdown(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            ImportError("No module named 'grpc'"),
            "needs another package (No module named 'grpc'): pip install '.[cluster]', or unset ",
        ),
        (ConnectionError("timeout"), "cannot be reached (timeout): start it with `ray start"),
    ],
)
def test_an_error_is_one_sentence(
    address: str, monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
) -> None:
    monkeypatch.setitem(sys.modules, "ray", FakeRay(error))
    with pytest.raises(PipelineError) as caught, connected(address):
        pass
    assert str(caught.value).startswith(f"PIPELINE_CLUSTER={address} {sentence}")


@pytest.mark.parametrize("count", [2, 3])
def test_the_head_s_process_for_this_client_is_started_again(
    address: str, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """One of eight did not start, of gRPC's 1.85 in Ray 2.60."""
    ray = FakeRay(*[ConnectionAbortedError("it did not start") for _ in range(count)])
    monkeypatch.setitem(sys.modules, "ray", ray)
    if count < ray_connection.CLIENT_STARTS:
        with connected(address) as connection:
            connection.check_head()
    else:
        with pytest.raises(PipelineError, match="it did not start"), connected(address):
            pass
