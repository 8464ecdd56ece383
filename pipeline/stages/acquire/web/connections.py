"""Connections for strangers: their headers come in time, and they lead to the public Internet."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from pipeline.stages.acquire.web.url_policy import find_private_address, is_public

TICK = 0.1  # seconds between two looks of the watch


class Watch:
    """Ends connections that are late.

    A socket's timeout is for one piece: a server that sends a header letter by letter never meets
    it. One thread looks after all connections of the process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By token, not by socket: once a body ends, another thread may already wait on the same.
        self._deadlines: dict[object, tuple[socket.socket, float]] = {}
        self._thread: threading.Thread | None = None

    def add(self, connected: socket.socket, seconds: float) -> object:
        """A token for `remove`."""
        token = object()
        with self._lock:
            self._deadlines[token] = connected, time.monotonic() + seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, daemon=True)
                self._thread.start()
        return token

    def remove(self, token: object) -> bool:
        """Whether it was in time."""
        with self._lock:
            return self._deadlines.pop(token, None) is not None

    def _look(self) -> None:
        while True:
            time.sleep(TICK)
            with self._lock:
                if not self._deadlines:
                    self._thread = None
                    return
                now = time.monotonic()
                late = [token for token, (_, end) in self._deadlines.items() if end < now]
                for token in late:
                    _end(self._deadlines.pop(token)[0])


def _end(connected: socket.socket) -> None:
    """Whoever reads gets the end of the stream. (TLS's own shutdown would pull the rug.)"""
    with suppress(OSError):  # where it has ended by itself
        socket.socket.shutdown(connected, socket.SHUT_RDWR)


_watch = Watch()


class PrivateAddress(Exception):
    pass


@contextmanager
def watched(connected: socket.socket, seconds: float) -> Iterator[None]:
    """Raise TimeoutError unless the block ends within `seconds`, whatever comes meanwhile."""
    token = _watch.add(connected, seconds)
    try:
        yield
    finally:
        if not _watch.remove(token):
            raise TimeoutError("it does not go on")


class _Timed(HTTPConnection):
    def getresponse(self) -> Any:
        connected, seconds = self.sock, self.timeout
        assert connected is not None
        assert isinstance(seconds, int | float)
        response = None
        try:
            with watched(connected, seconds):
                response = super().getresponse()
        except TimeoutError:
            # The end of the stream ends the headers too, as if they were whole.
            if response is not None:
                response.close()
            raise
        found: Any = response
        found.connected = connected  # for whoever reads the body
        return found


class _TimedTLS(_Timed, HTTPSConnection):
    pass


class _Guarded(_Timed):
    """Refuses a private address before it is connected, and once more before anything is said.

    A name that was looked up before could lead elsewhere by now; a connection cannot.
    """

    def _new_conn(self) -> Any:
        if private := find_private_address(self._dns_host):
            raise PrivateAddress(private)
        connected = super()._new_conn()
        address = str(connected.getpeername()[0])
        if not is_public(address):
            connected.close()
            raise PrivateAddress(address)
        return connected


class _GuardedTLS(_Guarded, HTTPSConnection):
    pass


def pools(allow_private: bool) -> dict[str, Any]:
    """Classes for urllib3's pool manager, by scheme."""
    plain, tls = (_Timed, _TimedTLS) if allow_private else (_Guarded, _GuardedTLS)
    return {
        "http": type("Pool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("TLSPool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": tls}),
    }
