"""Connections for strangers: their headers come in time, and they lead to the public Internet."""

import socket
import threading
import time
from contextlib import suppress
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from pipeline.acquire.web.address import is_public

TICK = 0.1  # seconds between two looks of the watch


class Watch:
    """Ends connections that are late.

    A socket's timeout is for one piece: a server that sends a header letter by letter never meets
    it. One thread looks after all connections of the process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deadlines: dict[socket.socket, float] = {}
        self._thread: threading.Thread | None = None

    def add(self, connected: socket.socket, seconds: float) -> None:
        with self._lock:
            self._deadlines[connected] = time.monotonic() + seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, daemon=True)
                self._thread.start()

    def remove(self, connected: socket.socket) -> bool:
        """Whether it was in time."""
        with self._lock:
            return self._deadlines.pop(connected, None) is not None

    def _look(self) -> None:
        while True:
            time.sleep(TICK)
            with self._lock:
                if not self._deadlines:
                    self._thread = None
                    return
                now = time.monotonic()
                late = [sock for sock, deadline in self._deadlines.items() if deadline < now]
                for connected in late:
                    del self._deadlines[connected]
                    _end(connected)


def _end(connected: socket.socket) -> None:
    """Whoever reads gets the end of the stream. (TLS's own shutdown would pull the rug.)"""
    with suppress(OSError):  # where it has ended by itself
        socket.socket.shutdown(connected, socket.SHUT_RDWR)


_watch = Watch()


class PrivateAddress(Exception):
    pass


class _Timed(HTTPConnection):
    def getresponse(self) -> Any:
        connected, seconds = self.sock, self.timeout
        if connected is None or not isinstance(seconds, int | float):
            return super().getresponse()
        _watch.add(connected, seconds)
        try:
            response = super().getresponse()
        finally:
            in_time = _watch.remove(connected)
        if not in_time:  # an end of the stream also ends the headers, as if they were whole
            raise TimeoutError("its headers do not end")
        return response


class _TimedTLS(_Timed, HTTPSConnection):
    pass


class _Guarded(_Timed):
    """Refuses a private address once it is connected, before anything is said.

    A name that was looked up before could lead elsewhere by now; a connection cannot.
    """

    def _new_conn(self) -> Any:
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
