"""How an answer can go wrong, and the plans that say which answer does."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime


@dataclass(frozen=True)
class Fault:
    """One way of answering. What is left unset stays as the true answer has it."""

    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    stall: float = 0.0
    """Seconds of silence before the answer; infinite: silence until the client closes."""
    drop: bool = False
    """Close before the first byte of the answer."""
    keep: int | float | None = None
    """How much of the body is sent before the end: bytes, or a share when it is a float."""
    reset: bool = False
    """End with a reset (RST) and not in the orderly way."""
    step: int = 0
    """Bytes a time of a body without an end; 0: the body is an ordinary one."""
    pause: float = 0.001
    """Seconds between the steps of an endless body."""
    chunked: bool = False
    """An endless body comes in chunks; else it has no length at all."""

    def keeps(self, length: int) -> int:
        """How many bytes of a body of `length` are sent."""
        if self.keep is None:
            return length
        return int(self.keep * length) if isinstance(self.keep, float) else self.keep

    @property
    def harmless(self) -> bool:
        """Whether the client still gets the whole of what it asked for."""
        return (self.status, self.body, self.keep, self.step) == (None, None, None, 0)


Plan = Callable[[str, int, str], Fault | None]
"""Given kind ("api", "photo" or "file"), number of that kind from 1, and path: the fault, if any.

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
    """Answer with this status code and a page."""
    return Fault(status=code, headers=(HTML_TYPE,), body=PAGE)


def throttled(after: int | datetime | None = None) -> Fault:
    """Answer 429; Retry-After is in seconds, or a date in UTC, or missing."""
    if after is None:
        return status(429)
    said = str(after) if isinstance(after, int) else format_datetime(after, usegmt=True)
    return Fault(status=429, headers=(HTML_TYPE, ("Retry-After", said)), body=PAGE)


def stat_fail(code: int, message: str) -> Fault:
    """Answer 200 with an error of the API."""
    said = {"stat": "fail", "code": code, "message": message}
    return Fault(body=json.dumps(said).encode())


def stall(seconds: float) -> Fault:
    """Be silent for a while, then answer as ever."""
    return Fault(stall=seconds)


def cut(count: int, *, reset: bool = False) -> Fault:
    """Close, or reset, after `count` bytes of the body."""
    return Fault(keep=count, reset=reset)


def redirect(location: str, code: int = 302) -> Fault:
    """Send the client elsewhere, whatever the scheme."""
    return Fault(status=code, headers=(("Location", location),), body=b"")


def header(name: str, value: str) -> Fault:
    """Answer as ever, with one header more, or another one."""
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
"""The faults that a command line can name."""


def every(count: int, *faults: Fault, kind: str | None = None) -> Plan:
    """Each `count`-th answer of a kind fails, with each fault in turn; no path fails twice."""
    due: Counter[str] = Counter()
    failed: set[tuple[str, str]] = set()

    def plan(asked: str, number: int, path: str) -> Fault | None:
        if kind not in (None, asked):
            return None
        due[asked] += number % count == 0
        # With many connections a retry may come `count` requests later: the next path fails then.
        if not due[asked] or (asked, path) in failed:
            return None
        due[asked] -= 1
        failed.add((asked, path))
        return faults[(len(failed) - 1) % len(faults)]

    return plan


def once(part: str, *faults: Fault) -> Plan:
    """The first requests whose path has `part` meet the faults, one each; then all is well."""
    left = list(faults)
    return lambda _kind, _number, path: left.pop(0) if left and part in path else None


def always(part: str, fault: Fault) -> Plan:
    """Every request whose path has `part` fails; "" is every request."""
    return lambda _kind, _number, path: fault if part in path else None


def first_of(*plans: Plan) -> Plan:
    """The first plan that has a fault decides; those behind it do not see that request."""

    def plan(kind: str, number: int, path: str) -> Fault | None:
        answers = (each(kind, number, path) for each in plans)
        return next((fault for fault in answers if fault), None)

    return plan
