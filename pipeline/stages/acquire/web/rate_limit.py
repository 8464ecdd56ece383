"""Rate limits per host: requests per second, and pauses that a host requests (Retry-After)."""

import threading
import time
from dataclasses import dataclass, field
from functools import lru_cache

from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web.fetch_error import FetchError

# Requests per second where acquire.per_host_per_second is null. Flickr allows 3,600 API calls an
# hour; for photographs it documents no limit, but responds with 429.
DEFAULT_LIMITS = {"api.flickr.com": 1.0, "staticflickr.com": 10.0}


@lru_cache(maxsize=1024)
def limited_domain(host: str) -> str:
    """Return what shares a limit with a host: a domain with a default limit, or itself."""
    domains = (name for name in DEFAULT_LIMITS if host == name or host.endswith(f".{name}"))
    return next(domains, host)


def default_limit(host: str) -> float | None:
    """The default limit of a host in requests per second, or None."""
    return DEFAULT_LIMITS.get(limited_domain(host))


@dataclass
class _Host:
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Owned by the thread that waits; the others queue for it."""
    free_at: float = 0.0
    """On the monotonic clock, in seconds."""


class RateLimiter:
    """Shared by all threads of a client."""

    def __init__(self, per_second: float | None = None, max_pause: float = 120) -> None:
        """Set the limits.

        Args:
            per_second: Requests to each host; 0 for no limit, None for the defaults.
            max_pause: Seconds; a host that requests a longer pause is given up.
        """
        self._per_second = per_second
        self._max_pause = max_pause
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}  # those with a limit or a pause
        self.stopped = threading.Event()
        """Set to end all waits when the results are no longer needed."""

    def wait(self, name: str) -> None:
        """Return when the host may be requested, or when `stopped` is set.

        Raises:
            FetchError: it requested a pause longer than `max_pause`.
        """
        name = limited_domain(name)
        limit = default_limit(name) if self._per_second is None else self._per_second
        host = self._hosts.get(name)
        if not limit and (host is None or host.free_at <= time.monotonic()):
            return
        host = self._host(name)
        if (pause := host.free_at - time.monotonic()) > self._max_pause:
            message = f"{name} allows no request for {pause:.0f} seconds"
            raise FetchError(SkipReason.UNREACHABLE, message)
        with host.turn:
            while (pause := host.free_at - time.monotonic()) > 0 and not self.stopped.wait(pause):
                pass
            if limit:
                self._set_free_at(host, time.monotonic() + 1 / limit)

    def pause(self, name: str, seconds: float) -> None:
        """Send the host no request for some seconds."""
        self._set_free_at(self._host(limited_domain(name)), time.monotonic() + seconds)

    def _host(self, name: str) -> _Host:
        with self._lock:
            return self._hosts.setdefault(name, _Host())

    def _set_free_at(self, host: _Host, moment: float) -> None:
        with self._lock:
            host.free_at = max(host.free_at, moment)
