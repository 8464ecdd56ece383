"""The connection to a Ray cluster: its address, tries, errors in a sentence, whether it lasts."""

import os
import signal
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.core.errors import PipelineError
from pipeline.core.terminal import one_line, without_password

VARIABLE = "PIPELINE_CLUSTER"
CLUSTER_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # whether Ray uses the network
CONNECT_SECONDS = 10  # for the head to answer
CLIENT_STARTS = 3  # tries: the head starts a process per ray:// client, and its fork may crash


class ClusterLostError(Exception):
    """The cluster cannot compute the rest of the work; the text says why."""


@dataclass(frozen=True)
class Connection:
    """An open connection."""

    ray: Any
    """The module."""
    head: str
    """HOST:PORT of the process whose end is that of the cluster."""

    def check_head(self) -> None:
        """Look for the head: without it, most calls of Ray wait, and then end this process.

        Raises:
            OSError: nothing listens there.
        """
        _check_answers(self.head)


def cluster_address() -> str:
    """The text of PIPELINE_CLUSTER; "" if there is none."""
    return os.environ.get(VARIABLE, "").strip()


@contextmanager
def connected(address: str) -> Iterator[Connection]:
    """Connect to a cluster, until the end of the block.

    Raises:
        PipelineError: Ray is not installed, or there is no such cluster.
    """
    ray = _import_ray(address)
    on_sigterm = signal.getsignal(signal.SIGTERM)  # Ray sets its own
    with _errors_as_sentences(ray, address):
        head = _connect(ray, address)
    signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield Connection(ray, head)
    finally:
        ray.shutdown()


def check_cluster() -> None:
    """Look for the cluster that PIPELINE_CLUSTER names, without starting one.

    Raises:
        PipelineError: Ray is not installed, or nothing listens at the address.
    """
    if address := cluster_address():
        with _errors_as_sentences(_import_ray(address), address):
            if address != "auto":
                _check_answers(address)


def _import_ray(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise PipelineError(
            f"{VARIABLE}={without_password(address)} needs Ray: pip install '.[cluster]', or unset "
            f"{VARIABLE}"
        ) from error
    return ray


@contextmanager
def _errors_as_sentences(ray: Any, address: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:  # ray:// imports more than Ray alone requires
        raise PipelineError(
            f"{VARIABLE}={without_password(address)} needs another package ({one_line(error)}): "
            f"pip install '.[cluster]', or unset {VARIABLE}"
        ) from error
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise PipelineError(
            f"{VARIABLE}={without_password(address)} cannot be reached ({one_line(error)}): start "
            "it with `ray start --head`, correct the address, set RAY_AUTH_MODE=token and "
            f"RAY_AUTH_TOKEN if it wants a token, or unset {VARIABLE}"
        ) from error


def _connect(ray: Any, address: str) -> str:
    """Connect, and return the head's HOST:PORT."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "auto":
        _connect_or_start(ray, quiet)
        return str(ray.get_runtime_context().gcs_address)
    _check_answers(address)
    if address.startswith("ray://"):
        _connect_client(lambda: ray.init(address=address, **quiet))
    else:
        ray.init(address=address, **quiet)
    return _host_and_port(address)


def _connect_client(connect: Callable[[], object]) -> None:
    """Without Ray's warnings, which `_errors_as_sentences` says better."""
    for left in reversed(range(CLIENT_STARTS)):
        try:
            with warnings.catch_warnings(action="ignore", category=UserWarning):
                connect()
        except ConnectionAbortedError:  # the head's process for this client did not start
            if not left:
                raise
        else:
            return


def _connect_or_start(ray: Any, quiet: Mapping[str, Any]) -> None:
    try:
        ray.init(address="auto", **quiet)
    except ConnectionError:
        os.environ.setdefault("RAY_worker_niceness", "0")  # as the stage's own work, not 15
        with _on_loopback(ray):
            ray.init(include_dashboard=False, **quiet)


@contextmanager
def _on_loopback(ray: Any) -> Iterator[None]:
    """Have Ray listen on 127.0.0.1 alone, as it does by default on Windows and macOS.

    Elsewhere it takes the address of the network for 127.0.0.1, and listens on all. Its processes
    read the variable, and this one has read it at its import.
    """
    constants = ray._private.ray_constants
    is_cluster, constants.ENABLE_RAY_CLUSTER = constants.ENABLE_RAY_CLUSTER, False
    os.environ[CLUSTER_VARIABLE] = "0"
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = is_cluster
        del os.environ[CLUSTER_VARIABLE]


def _check_answers(address: str) -> None:
    """Raise an OSError if nothing listens there: Ray would try for five minutes."""
    host, _, port = _host_and_port(address).rpartition(":")
    if not (host and port.isdecimal()):
        raise ValueError("it is not HOST:PORT")
    with socket.create_connection((host, int(port)), CONNECT_SECONDS):
        pass


def _host_and_port(address: str) -> str:
    return address.rpartition("://")[2]
