"""Retries of requests that failed, with growing pauses."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pipeline.stages.acquire.web.fetch_error import FetchError

T = TypeVar("T")


@dataclass(frozen=True)
class Policy:
    """Timeouts and retries of a client, in seconds unless noted otherwise."""

    connect_timeout: float = 10
    read_timeout: float = 30
    """For all headers together, and between two pieces of a body."""
    attempts: int = 6
    pause: float = 0.5
    """Before the second attempt; doubled before each further one, times 0.5 to 1.5 at random."""
    max_pause: float = 120
    """Also for Retry-After."""
    min_rate: float = 500
    """Of a body in bytes per second, from `read_timeout` on."""


def retry(operation: Callable[[], T], policy: Policy, stopped: threading.Event) -> T:
    """Return the result of `operation`, retried after transient errors until `stopped` is set.

    Raises:
        FetchError: of the last attempt, or the first one that is not transient.
    """
    pause = policy.pause
    for attempt in range(1, policy.attempts + 1):
        try:
            return operation()
        except FetchError as error:
            is_last = attempt == policy.attempts or stopped.is_set()
            is_too_long = (error.retry_after or 0) > policy.max_pause
            if is_last or is_too_long or not error.transient:
                raise
        stopped.wait(pause * random.uniform(0.5, 1.5))
        pause = min(2 * pause, policy.max_pause)
    raise AssertionError("an attempt returns or raises")
