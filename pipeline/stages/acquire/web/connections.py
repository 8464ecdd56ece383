"""Connections to untrusted servers: deadlines for headers and bodies, public addresses only."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from pipeline.stages.acquire.web.url_policy import find_private_address, is_public

CHECK_SECONDS = 0.1  # between two checks of the deadlines


class Watchdog:
    """Ends connections that miss their deadline, in one thread for all of them.

    A socket's timeout is not enough: it restarts with every byte that arrives.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By token, not by socket: once a body ends, another thread may use the same socket.
        self._deadlines: dict[object, tuple[socket.socket, float]] = {}
        self._thread: threading.Thread | None = None

    def add(self, connection: socket.socket, seconds: float) -> object:
        """Return a token for `remove`."""
        token = object()
        with self._lock:
            self._deadlines[token] = connection, time.monotonic() + seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, daemon=True)
                self._thread.start()
        return token

    def remove(self, token: object) -> bool:
        """Return whether the deadline was met."""
        with self._lock:
            return self._deadlines.pop(token, None) is not None

    def _watch(self) -> None:
        while True:
            time.sleep(CHECK_SECONDS)
            with self._lock:
                if not self._deadlines:
                    self._thread = None
                    return
                now = time.monotonic()
                late = [token for token, (_, end) in self._deadlines.items() if end < now]
                for token in late:
                    _shut_down(self._deadlines.pop(token)[0])


def _shut_down(connection: socket.socket) -> None:
    """End the stream for its reader. (SSLSocket.shutdown would drop TLS under that thread.)"""
    with suppress(OSError):  # closed already
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


_watchdog = Watchdog()


class PrivateAddress(Exception):
    """The host has an address inside a private network."""


@contextmanager
def deadline(connection: socket.socket, seconds: float) -> Iterator[None]:
    """Raise TimeoutError if the block takes longer than `seconds`, even while bytes arrive."""
    token = _watchdog.add(connection, seconds)
    try:
        yield
    finally:
        if not _watchdog.remove(token):
            raise TimeoutError("deadline missed")


class _DeadlineConnection(HTTPConnection):
    """Applies the timeout to all headers together."""

    def getresponse(self) -> Any:
        connection, seconds = self.sock, self.timeout
        assert connection is not None
        assert isinstance(seconds, int | float)
        response: Any = None
        try:
            with deadline(connection, seconds):
                response = super().getresponse()
        except TimeoutError:
            # The end of the stream ends the headers as if they were complete.
            if response is not None:
                response.close()
            raise
        response.connected = connection  # for the deadlines of the body
        return response


class _DeadlineTLSConnection(_DeadlineConnection, HTTPSConnection):
    pass


class _PublicConnection(_DeadlineConnection):
    """Refuses private addresses before it connects, and again before it sends anything.

    The name may resolve to another address the second time; the connection has only one.
    """

    def _new_conn(self) -> Any:
        if private := find_private_address(self._dns_host):
            raise PrivateAddress(private)
        connection = super()._new_conn()
        address = str(connection.getpeername()[0])
        if not is_public(address):
            connection.close()
            raise PrivateAddress(address)
        return connection


class _PublicTLSConnection(_PublicConnection, HTTPSConnection):
    pass


def pool_classes(allow_private: bool) -> dict[str, Any]:
    """Classes for urllib3's pool manager, by scheme."""
    plain, tls = (
        (_DeadlineConnection, _DeadlineTLSConnection)
        if allow_private
        else (_PublicConnection, _PublicTLSConnection)
    )
    return {
        "http": type("Pool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("TLSPool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": tls}),
    }
