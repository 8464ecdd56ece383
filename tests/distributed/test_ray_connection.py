"""Connecting to a cluster, with something that takes Ray's place."""

import os
import socket
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from pipeline.core.errors import PipelineError
from pipeline.distributed import ray_connection
from pipeline.distributed.ray_connection import CLUSTER_VARIABLE, connected


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
    """On a busy head gRPC's fork handlers may crash it: docs/cluster.md."""
    ray = FakeRay(*[ConnectionAbortedError("it did not start") for _ in range(count)])
    monkeypatch.setitem(sys.modules, "ray", ray)
    if count < ray_connection.CLIENT_STARTS:
        with connected(address) as connection:
            connection.check_head()
    else:
        with pytest.raises(PipelineError, match="it did not start"), connected(address):
            pass


class LoopbackRay(FakeRay):
    """No cluster runs; the one that it starts notes what Ray decides its addresses by."""

    def __init__(self) -> None:
        super().__init__(ConnectionError("none runs"))
        self._private = SimpleNamespace(ray_constants=SimpleNamespace(ENABLE_RAY_CLUSTER=True))
        self.started_with: list[object] = []

    def init(self, **options: object) -> None:
        super().init(**options)
        constants = self._private.ray_constants
        self.started_with += [constants.ENABLE_RAY_CLUSTER, os.environ[CLUSTER_VARIABLE]]

    def get_runtime_context(self) -> object:
        return SimpleNamespace(gcs_address="127.0.0.1:1")


def test_a_cluster_that_is_started_listens_on_this_machine_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seen with Ray 2.60; a real one here would find clusters of other tests and people."""
    monkeypatch.setenv("RAY_worker_niceness", "0")
    ray = LoopbackRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    with connected("auto") as connection:
        assert connection.head == "127.0.0.1:1"
    assert ray.started_with == [False, "0"]
    assert ray._private.ray_constants.ENABLE_RAY_CLUSTER
    assert CLUSTER_VARIABLE not in os.environ
