"""Faults of a response, and plans of which response has which fault."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime


@dataclass(frozen=True)
class Fault:
    """Changes to a response; what is not set stays as it is."""

    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    stall: float = 0.0
    """Seconds of silence before the response; infinite: until the client closes."""
    drop: bool = False
    """Close before the first byte of the response."""
    keep: int | float | None = None
    """How much of the body is sent: bytes, or a fraction if it is a float."""
    reset: bool = False
    """End with a reset (RST)."""
    step: int = 0
    """Bytes per step of an endless body; 0: an ordinary body."""
    pause: float = 0.001
    """Seconds between the steps of an endless body."""
    chunked: bool = False
    """Whether an endless body is chunked; otherwise it has no length."""

    def sent_bytes(self, length: int) -> int:
        """How many bytes of a body of `length` are sent."""
        if self.keep is None:
            return length
        return int(self.keep * length) if isinstance(self.keep, float) else self.keep

    @property
    def is_harmless(self) -> bool:
        """Whether the client still gets the whole file."""
        return (self.status, self.body, self.keep, self.step) == (None, None, None, 0)


Plan = Callable[[str, int, str], Fault | None]
"""(kind, number, path) -> fault or None; kind is "api", "photo" or "file", number counts it from 1.

The path of an API call has its parameters behind it: "/services/rest/?method=...&page=2&text=car".
"""

PAGE = b"<!DOCTYPE html><html><head><title>Flickr</title></head><body>Hold on...</body></html>"
HTML_TYPE = ("Content-Type", "text/html; charset=utf-8")

NONE = Fault()
EMPTY = Fault(body=b"")
MALFORMED = Fault(body=b'{"photos":{"page":1,"pages":')
STALL = Fault(stall=float("inf"))
DROP = Fault(drop=True)
RESET = Fault(keep=0.5, reset=True)
SHORT = Fault(keep=0.5)
ENDLESS = Fault(step=1024)
CHUNKS = Fault(step=1024, chunked=True)
DRIP = Fault(step=1, pause=0.05)
HTML = Fault(headers=(HTML_TYPE,), body=PAGE)
HTML_AS_JPEG = Fault(headers=(("Content-Type", "image/jpeg"),), body=PAGE)
NO_AI = Fault(headers=(("X-Robots-Tag", "noai, noimageai"),))


def status(code: int) -> Fault:
    """Respond with this status code and a page."""
    return Fault(status=code, headers=(HTML_TYPE,), body=PAGE)


def throttled(after: int | datetime | None = None) -> Fault:
    """Respond with 429; Retry-After is in seconds, or a date in UTC, or missing."""
    if after is None:
        return status(429)
    value = str(after) if isinstance(after, int) else format_datetime(after, usegmt=True)
    return Fault(status=429, headers=(HTML_TYPE, ("Retry-After", value)), body=PAGE)


def stat_fail(code: int, message: str) -> Fault:
    """Respond with 200 and an error of the API."""
    error = {"stat": "fail", "code": code, "message": message}
    return Fault(body=json.dumps(error).encode())


def stall(seconds: float) -> Fault:
    """Be silent for a while, then respond as usual."""
    return Fault(stall=seconds)


def cut(count: int, *, reset: bool = False) -> Fault:
    """Close, or reset, after `count` bytes of the body."""
    return Fault(keep=count, reset=reset)


def redirect(location: str, code: int = 302) -> Fault:
    """Redirect, whatever the scheme."""
    return Fault(status=code, headers=(("Location", location),), body=b"")


def header(name: str, value: str) -> Fault:
    """Respond as usual, with this header set."""
    return Fault(headers=((name, value),))


NAMED = {
    "empty": EMPTY,
    "malformed": MALFORMED,
    "stall": STALL,
    "drop": DROP,
    "reset": RESET,
    "short": SHORT,
    "endless": ENDLESS,
    "chunks": CHUNKS,
    "drip": DRIP,
    "html": HTML,
    "html-as-jpeg": HTML_AS_JPEG,
    "no-ai": NO_AI,
    "stat-fail": stat_fail(105, "Unavailable"),
    "429": throttled(1),
    **{str(code): status(code) for code in (403, 404, 410, 500, 502, 503)},
}
"""Faults by name, for the command line."""


def every(count: int, *faults: Fault, kind: str | None = None) -> Plan:
    """Every `count`-th response of a kind fails, with the faults in turn; no path fails twice."""
    due: Counter[str] = Counter()
    failed: set[tuple[str, str]] = set()

    def plan(request_kind: str, number: int, path: str) -> Fault | None:
        if kind not in (None, request_kind):
            return None
        due[request_kind] += number % count == 0
        # A retry of a failed path passes; the next path fails in its place.
        if not due[request_kind] or (request_kind, path) in failed:
            return None
        due[request_kind] -= 1
        failed.add((request_kind, path))
        return faults[(len(failed) - 1) % len(faults)]

    return plan


def once(pattern: str, *faults: Fault) -> Plan:
    """The first requests with `pattern` in their path get a fault each, in order."""
    remaining = list(faults)
    return lambda _kind, _number, path: remaining.pop(0) if remaining and pattern in path else None


def always(pattern: str, fault: Fault) -> Plan:
    """Every request with `pattern` in its path fails."""
    return lambda _kind, _number, path: fault if pattern in path else None


def first_of(*plans: Plan) -> Plan:
    """The first plan with a fault decides; the later plans do not count that request."""

    def plan(kind: str, number: int, path: str) -> Fault | None:
        faults = (member(kind, number, path) for member in plans)
        return next((fault for fault in faults if fault), None)

    return plan
