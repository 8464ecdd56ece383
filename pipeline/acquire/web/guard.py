"""Connections that lead to the public Internet or nowhere."""

from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from pipeline.acquire.web.address import is_public


class PrivateAddress(Exception):
    pass


class _Guarded(HTTPConnection):
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


class _GuardedPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Guarded


class _GuardedTLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _GuardedTLS


POOLS = {"http": _GuardedPool, "https": _GuardedTLSPool}
"""For urllib3's pool manager, by scheme."""
