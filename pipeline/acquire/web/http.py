"""Asking servers, as a polite and suspicious stranger; the only importer of requests.

A `Client` paces itself per host, tries again what may succeed, checks every address before it is
asked, and turns whatever goes wrong into a `Failure` with a reason.
"""

import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urljoin

import requests
import urllib3
from requests.adapters import HTTPAdapter

from pipeline import __version__
from pipeline.acquire.raw import Reason
from pipeline.acquire.web import guard
from pipeline.acquire.web.address import host_of, private_address
from pipeline.acquire.web.failure import Failure
from pipeline.acquire.web.pace import Pace
from pipeline.params import Acquire

HEADERS = {
    "User-Agent": f"image-pipeline/{__version__} (python-requests/{requests.__version__})",
    "Accept": "*/*",
    "Accept-Encoding": "identity",  # photographs and archives are packed already
    "Connection": "keep-alive",
}
REDIRECTS = 10
BLOCK = 2**18  # bytes
POOLS = 8  # hosts whose connections are kept open; each may have as many as there are threads
LONGEST = 32 * 2**20  # bytes that the answer of an interface may have
TRANSIENT = {408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524}
REASONS = {404: Reason.GONE, 410: Reason.GONE,
           401: Reason.FORBIDDEN, 403: Reason.FORBIDDEN, 451: Reason.FORBIDDEN}  # fmt: skip
UNWANTED = {"noai", "noimageai"}  # X-Robots-Tag: what the owner does not want done
# What requests and urllib3 raise for an answer that never came whole. ValueError: a hostile header.
BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError)
T = TypeVar("T")


@dataclass(frozen=True)
class Policy:
    """How patient a client is, in seconds where nothing else is said."""

    connect: float = 10
    read: float = 30
    """Longest silence within a body, and longest time until all headers are there."""
    attempts: int = 6
    pause: float = 0.5
    """Before the second attempt; twice as long before each further one, give or take a half."""
    longest_pause: float = 120
    """Also of what a Retry-After may ask for."""
    slowest: float = 500
    """Bytes per second of a body, once `read` has passed: below that it never ends."""


class _Adapter(HTTPAdapter):
    def __init__(self, connections: int, allow_private: bool) -> None:
        self._pools = guard.pools(allow_private)
        super().__init__(pool_connections=POOLS, pool_maxsize=connections)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **options)
        # A proxy is the user's own word, so it may be private.
        manager.pool_classes_by_scheme = guard.pools(allow_private=True)
        return manager


def _private(asked: str, address: str) -> Failure:
    return Failure(
        Reason.PRIVATE_ADDRESS,
        f"{asked} leads to the private address {address}: set acquire.allow_private=true if that "
        "is meant",
    )


class Client:
    """One pool of connections, shared by all threads."""

    def __init__(self, limits: Acquire, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.pace = Pace(limits.per_host_per_second)
        self._limits = limits
        self._proxies: dict[tuple[str, str], dict[str, str]] = {}
        self._session = _Session(_Adapter(limits.workers, limits.allow_private))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.pace.stopped.set()
        self._session.close()

    def persist(self, operation: Callable[[], T]) -> T:
        """The result of `operation`, tried again while it fails in ways that may pass.

        Raises:
            Failure: the last one, or the first that no further attempt would mend.
        """
        pause = self.policy.pause
        for attempt in range(1, self.policy.attempts + 1):
            try:
                return operation()
            except Failure as failure:
                last = attempt == self.policy.attempts or self.pace.stopped.is_set()
                too_long = (failure.after or 0) > self.policy.longest_pause
                if last or too_long or not failure.transient:
                    raise
            self.pace.stopped.wait(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, self.policy.longest_pause)
        raise AssertionError("an attempt returns or raises")

    def library_session(self) -> requests.Session:
        """A session for a library that asks by itself: one attempt, a `Failure` if it fails.

        `persist` around the library's call tries again. The address of an interface is the user's
        own word, so it may be private.
        """
        return _LibrarySession(self)

    @contextmanager
    def open(self, url: str, headers: Mapping[str, str] | None = None) -> "Iterator[Answer]":
        """One answer of status 200 or 206, after redirects, each checked before it is followed.

        Raises:
            Failure: the address is refused, does not answer, or answers anything else.
        """
        for _ in range(REDIRECTS + 1):
            with self._ask(url, headers or {}) as response:
                if response.is_redirect:
                    url = _joined(url, response.headers["Location"])
                    continue
                self.check(response, url, ranged="Range" in (headers or {}))
                yield Answer(response, url, self.policy)
                return
        raise Failure(Reason.REFUSED, f"{url} redirects more than {REDIRECTS} times")

    def _ask(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        proxies = self.prepare(url)
        if not self._limits.allow_private:
            # A proxy connects in our place, so then the name is all there is to look at.
            private = private_address(host_of(url), resolve=bool(proxies))
            if private:
                raise _private(url, private)
        try:
            return self._session.send(
                _prepared(url, HEADERS | dict(headers)), stream=True, allow_redirects=False,
                proxies=proxies, timeout=(self.policy.connect, self.policy.read),
            )  # fmt: skip
        except guard.PrivateAddress as error:
            raise _private(url, str(error)) from error
        except BROKEN as error:
            raise unreachable(url, error) from error

    def prepare(self, url: str) -> dict[str, str]:
        """Wait until the host may be asked; return the proxies that lead to it."""
        host = host_of(url)
        self.pace.wait(host)
        scheme = url.partition(":")[0].lower()
        if (scheme, host) not in self._proxies:  # finding them costs as much as a request
            found = requests.utils.get_environ_proxies(f"{scheme}://{host}/")
            self._proxies[scheme, host] = dict(found)
        return self._proxies[scheme, host]

    def check(self, response: requests.Response, url: str, ranged: bool = False) -> None:
        """Raise Failure unless an answer is what was asked for."""
        status = response.status_code
        partial = ranged and status == requests.codes.partial_content
        if status != requests.codes.ok and not partial:
            failure = _refusal(response, url)
            if failure.after is not None and failure.after <= self.policy.longest_pause:
                self.pace.hush(host_of(url), failure.after)
            raise failure
        unwanted = _is_unwanted(response.headers.get("X-Robots-Tag", ""))
        if unwanted and self._limits.respect_robots:
            raise Failure(
                Reason.ROBOTS,
                f"{url} asks not to be used for machine learning (X-Robots-Tag): leave it, or set "
                "acquire.respect_robots=false",
            )


class Answer:
    """What a server says, as it comes in."""

    def __init__(self, response: requests.Response, url: str, policy: Policy) -> None:
        self.url = url
        """Where it came from, after redirects."""
        self.headers = response.headers
        self.partial = response.status_code == requests.codes.partial_content
        """Whether it is the range that was asked for, and not the whole."""
        self._raw: urllib3.HTTPResponse = response.raw
        self._policy = policy

    @property
    def length(self) -> int | None:
        """Bytes of the body as the server states them; None where it does not, or packs them."""
        stated = self.headers.get("Content-Length", "")
        packed = "Content-Encoding" in self.headers
        return int(stated) if stated.isdecimal() and not packed else None

    @property
    def starts_at(self) -> int:
        """Offset of the body in the file, in bytes; -1 where the server does not say."""
        if not self.partial:
            return 0
        found = re.match(r"bytes (\d{1,18})-", self.headers.get("Content-Range", ""))
        return int(found[1]) if found else -1

    @property
    def validator(self) -> str:
        """What If-Range takes: a strong ETag, or a date; empty where there is neither."""
        etag = self.headers.get("ETag", "")
        strong = etag.startswith('"') and "Content-Encoding" not in self.headers
        return etag if strong else self.headers.get("Last-Modified", "")

    def blocks(self, most: float) -> Iterator[bytes]:
        """The body, whole or not at all.

        Raises:
            Failure: it has more than `most` bytes, fewer than stated, or comes too slowly.
        """
        received = 0
        start = time.monotonic()
        if (self.length or 0) > most:
            raise Failure(Reason.TOO_LARGE, f"{self.url} is larger than {most:.0f} bytes")
        while block := self._next():
            received += len(block)
            if received > most:
                raise Failure(Reason.TOO_LARGE, f"{self.url} is larger than {most:.0f} bytes")
            yield block
            late = time.monotonic() - start - self._policy.read
            if late > 0 and received < late * self._policy.slowest:
                raise Failure(Reason.UNREACHABLE, f"{self.url} sends too slowly", transient=True)
        # Headers that were cut off look whole: they state no length, and nothing follows.
        expected = max(received, 1) if self.length is None else self.length
        if received != expected:
            said = f"{self.url} sent {received} of {expected} bytes"
            raise Failure(Reason.UNREACHABLE, said, transient=True)

    def _next(self) -> bytes:
        try:
            # read1 returns what there is; read would wait for a whole block, for ever if it drips.
            return self._raw.read1(BLOCK, decode_content=True)
        except BROKEN as error:
            raise unreachable(self.url, error) from error


class _Session(requests.Session):
    """Says who it is, and takes nothing from ~/.netrc."""

    def __init__(self, adapter: HTTPAdapter) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, adapter)
        self.trust_env = False
        self.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        self.headers.update(HEADERS)


class _LibrarySession(_Session):
    def __init__(self, client: Client) -> None:
        super().__init__(_Adapter(1, allow_private=True))
        self._client = client

    def request(self, method: str, url: str, **options: Any) -> requests.Response:  # type: ignore[override]
        policy = self._client.policy
        options |= {
            "proxies": self._client.prepare(url), "timeout": (policy.connect, policy.read),
            "stream": True, "allow_redirects": False,
        }  # fmt: skip
        try:
            response = super().request(method, url, **options)
        except BROKEN as error:
            raise unreachable(url, error) from error
        with response:
            self._client.check(response, url)
            # What `content` gives from now on: read here, within bounds.
            response._content = b"".join(Answer(response, url, policy).blocks(LONGEST))
        return response


def _prepared(url: str, headers: Mapping[str, str]) -> requests.PreparedRequest:
    """A GET without cookies or authorisation: merging those that we never have costs a third."""
    request = requests.PreparedRequest()
    request.prepare_method("GET")
    request.prepare_url(url, None)
    request.prepare_headers(headers)
    request.prepare_cookies({})
    return request


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise Failure(Reason.BAD_ADDRESS, f"{url} redirects to no address") from error


def _refusal(response: requests.Response, url: str) -> Failure:
    status = response.status_code
    transient = status in TRANSIENT
    reason = REASONS.get(status, Reason.UNREACHABLE if transient else Reason.REFUSED)
    said = f"{url} answers {status} {response.reason or ''}".rstrip()
    return Failure(reason, said, transient, status, _retry_after(response.headers))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        return float(urllib3.Retry().parse_retry_after(headers.get("Retry-After", "")))
    except (urllib3.exceptions.InvalidHeader, OverflowError):
        return None


def _is_unwanted(tag: str) -> bool:
    """Directives are separated by commas; one after `name:` is meant for that robot alone."""
    return not UNWANTED.isdisjoint(part.strip().lower() for part in tag.split(","))


def unreachable(url: str, error: Exception) -> Failure:
    """What an exception of requests or urllib3 means."""
    late = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    match error:
        case requests.exceptions.InvalidURL() | requests.exceptions.InvalidSchema():
            return Failure(Reason.BAD_ADDRESS, f"{url} is no address that can be asked")
        case requests.exceptions.SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return Failure(Reason.UNREACHABLE, f"{url} has no certificate that can be trusted")
        case _ if isinstance(error, late):
            said = "gives no answer in time"
        case requests.ConnectionError():
            said = "cannot be reached"
        case _:
            said = "breaks the connection"
    return Failure(Reason.UNREACHABLE, f"{url} {said}", transient=True)
