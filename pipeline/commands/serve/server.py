"""The process that listens: its socket, uvicorn, and how it ends."""

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import HANDLED_SIGNALS

from pipeline.core.errors import PipelineError

MAX_CONNECTIONS = 512  # others get 503; processes may often open 1,024 files
BACKLOG = 1024  # connections that are not accepted yet
KEEP_ALIVE_SECONDS = 20
STOP_SECONDS = 30  # for requests in progress


def is_loopback(host: str) -> bool:
    """Whether a server at this address is for its own machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        port: 0 for any that is free.

    Raises:
        PipelineError: the address is not this machine's, or the port is in use or reserved.
    """
    try:
        return _listen(host, port)
    except OSError as error:
        raise PipelineError(_describe(error, host, port)) from error


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    server = socket.socket(family, kind, protocol)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        server.listen(BACKLOG)
    except OSError:
        server.close()
        raise
    return server


def _describe(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: choose another with --port"
    if error.errno == errno.EACCES:
        return f"port {port} is reserved for the system: choose another with --port"
    reason = error.strerror or str(error)
    return f"cannot listen at {host} ({reason}): --host is an address of this machine"


def url_of(server: socket.socket) -> str:
    """Where a socket listens."""
    host, port = server.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class Protocol(H11Protocol):
    """A connection; closed if it sends no whole head of a request in `head_seconds`."""

    head_seconds = 15.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time of the first request."""
        super().connection_made(transport)
        self._start_deadline()

    def data_received(self, data: bytes) -> None:
        """Stop the time when a head is there; start it when a next one begins."""
        super().data_received(data)
        is_busy = self.cycle is not None and not self.cycle.response_complete
        if self._deadline is not None and is_busy:
            self._deadline.cancel()
            self._deadline = None
        elif not is_busy:
            self._start_deadline()

    def on_response_complete(self) -> None:
        """Start the time if a next head began while this response was made."""
        super().on_response_complete()
        is_busy = self.cycle is not None and not self.cycle.response_complete
        if not is_busy and self.conn.trailing_data[0]:
            self._start_deadline()

    def _start_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.head_seconds, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)


class Server(uvicorn.Server):
    """Ends with exit code 0 after SIGTERM or Ctrl-C; uvicorn's raises the signal again."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Have signals end the server: what is in progress is finished."""
        before = {number: signal.signal(number, self.handle_exit) for number in HANDLED_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(app: ASGIApp, server: socket.socket) -> None:
    """Serve until a signal comes, and what is in progress is finished."""
    for name in ("uvicorn.error", "python_multipart"):  # not each malformed request, nor its bytes
        logging.getLogger(name).setLevel(logging.ERROR)
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    Server(config).run(sockets=[server])
