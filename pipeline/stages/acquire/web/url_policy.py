"""Which URLs may be requested: http and https, and none inside a private network."""

import ipaddress
import re
import socket
from functools import lru_cache
from urllib.parse import urlsplit

from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web.fetch_error import FetchError

GLOBAL = ipaddress.ip_network("2000::/3")  # all public IPv6 addresses assigned so far
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits


def parse_host(url: str) -> str:
    """Return the host of an http or https URL.

    Raises:
        FetchError: it is not such a URL.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        host.encode("idna")
        # Other parsers end the host at a backslash, or drop control characters.
        authority = url.split("/", 3)[2]
        is_plain = re.search(r"[\\\x00-\x20\x7f]", authority) is None
        is_http = parts.scheme in {"http", "https"}
        is_valid = is_http and bool(host) and parts.port != 0 and is_plain
    except (ValueError, IndexError):  # invalid brackets, port or labels
        is_valid = False
    if not is_valid:
        raise FetchError(SkipReason.BAD_ADDRESS, f"{url} is not an http or https address")
    return host


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public Internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour
        if ip in NAT64:
            embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if embedded is None and ip not in GLOBAL:
            return False
        ip = embedded or ip
    return ip.is_global and not ip.is_multicast


@lru_cache(maxsize=1024)
def find_private_address(host: str) -> str | None:
    """Return an address of `host` that is not public, or None, also for an unknown host."""
    try:
        entries = socket.getaddrinfo(host, None)
    except (socket.gaierror, UnicodeError):
        return None  # the request will fail with a better message
    addresses = sorted({str(entry[4][0]) for entry in entries})
    return next((address for address in addresses if not is_public(address)), None)
