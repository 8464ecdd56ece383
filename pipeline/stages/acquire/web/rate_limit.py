"""When a host may be asked next: so many requests a second, and silence where it asked for it."""

import threading
import time
from dataclasses import dataclass, field
from functools import lru_cache

from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web.fetch_error import FetchError

# What hosts are asked at most where acquire.per_host_per_second is null, in requests per second.
# Flickr grants 3,600 calls an hour; for photographs it states no figure, and answers 429.
DEFAULT_LIMITS = {"api.flickr.com": 1.0, "staticflickr.com": 10.0}


@lru_cache(maxsize=1024)
def limited_domain(host: str) -> str:
    """What a limit is for: the host, or the domain of many that has a usual limit."""
    return next(
        (name for name in DEFAULT_LIMITS if host == name or host.endswith(f".{name}")), host
    )


def default_limit(host: str) -> float | None:
    """The usual limit of a host, in requests per second, or None."""
    return DEFAULT_LIMITS.get(limited_domain(host))


@dataclass(frozen=True)
class Policy:
    """How patient a client is, in seconds where nothing else is said."""

    connect_timeout: float = 10
    read_timeout: float = 30
    """Longest silence within a body, and longest time until all headers are there."""
    attempts: int = 6
    pause: float = 0.5
    """Before the second attempt; twice as long before each further one, give or take a half."""
    max_pause: float = 120
    """Also of what a Retry-After may ask for."""
    min_rate: float = 500
    """Bytes per second of a body, once `read_timeout` has passed: below that it never ends."""


@dataclass
class _Host:
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Held by the one thread that waits; the others queue behind it."""
    free_at: float = 0.0
    """On the monotonic clock, in seconds."""


class RateLimiter:
    """Shared by all threads of a client."""

    def __init__(self, per_second: float | None = None, patience: float = 120) -> None:
        """How hosts are asked.

        Args:
            per_second: Requests to each; 0 for no limit, None for each host's usual one.
            patience: Seconds of silence past which a host is given up.
        """
        self._per_second = per_second
        self._patience = patience
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}  # those that have a limit, or were told to be silent
        self.stopped = threading.Event()
        """Set to let all go at once, when nobody wants their answers any more."""

    def wait(self, name: str) -> None:
        """Return when the host may be asked, or when everything stops.

        Raises:
            Failure: it wants to be left alone for longer than anybody waits.
        """
        name = limited_domain(name)
        limit = default_limit(name) if self._per_second is None else self._per_second
        known = self._hosts.get(name)
        if not limit and (known is None or known.free_at <= time.monotonic()):
            return
        host = self._host(name)
        if (silence := host.free_at - time.monotonic()) > self._patience:
            said = f"{name} asks to be left alone for {silence:.0f} seconds"
            raise FetchError(SkipReason.UNREACHABLE, said)
        with host.turn:
            while (pause := host.free_at - time.monotonic()) > 0 and not self.stopped.wait(pause):
                pass
            if limit:
                self._free_at(host, time.monotonic() + 1 / limit)

    def pause(self, name: str, seconds: float) -> None:
        """Ask the host nothing for some seconds."""
        self._free_at(self._host(limited_domain(name)), time.monotonic() + seconds)

    def _host(self, name: str) -> _Host:
        with self._lock:
            return self._hosts.setdefault(name, _Host())

    def _free_at(self, host: _Host, moment: float) -> None:
        with self._lock:
            host.free_at = max(host.free_at, moment)
