"""Which addresses may be asked: http and https, and none inside somebody's network."""

import ipaddress
import re
import socket
from functools import lru_cache
from urllib.parse import urlsplit

from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web.fetch_error import FetchError

GLOBAL = ipaddress.ip_network("2000::/3")  # where all public IPv6 addresses are so far
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits


def parse_host(url: str) -> str:
    """The host of an address that can be asked.

    Raises:
        Failure: it is no http or https address.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        host.encode("idna")
        # Other parsers end the host at a backslash, or drop what is no letter.
        strange = re.search(r"[\\\x00-\x20\x7f]", url.split("/", 3)[2]) is not None
        sound = parts.scheme in {"http", "https"} and bool(host) and parts.port != 0 and not strange
    except (ValueError, IndexError):  # brackets, ports or labels that are none
        sound = False
    if not sound:
        raise FetchError(SkipReason.BAD_ADDRESS, f"{url} is no http or https address")
    return host


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public Internet."""
    known = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(known, ipaddress.IPv6Address):
        inner = known.ipv4_mapped or known.sixtofour
        if known in NAT64:
            inner = ipaddress.IPv4Address(int(known) & 0xFFFFFFFF)
        if inner is None and known not in GLOBAL:
            return False
        known = inner or known
    return known.is_global and not known.is_multicast


@lru_cache(maxsize=1024)
def find_private_address(host: str) -> str | None:
    """An address of `host` that is not public, or None. An unknown host has none."""
    try:
        found = socket.getaddrinfo(host, None)
    except (socket.gaierror, UnicodeError):
        return None  # asking it will fail, and say so
    addresses = sorted({str(entry[4][0]) for entry in found})
    return next((address for address in addresses if not is_public(address)), None)
