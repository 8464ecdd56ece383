"""Asking servers, as a polite and suspicious stranger.

A `Client` paces itself per host, tries again what may succeed, checks every address before it is
asked, and turns whatever goes wrong into a `Failure` with a reason.
"""

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter

from pipeline import __version__
from pipeline.params import AcquireParams
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web import connections
from pipeline.stages.acquire.web.fetch_error import FetchError
from pipeline.stages.acquire.web.rate_limit import Policy, RateLimiter
from pipeline.stages.acquire.web.response import BROKEN, Response, opts_out, refusal, unreachable
from pipeline.stages.acquire.web.url_policy import find_private_address, parse_host

HEADERS = {
    "User-Agent": f"image-pipeline/{__version__} (python-requests/{requests.__version__})",
    "Accept": "*/*",
    "Accept-Encoding": "identity",  # photographs and archives are packed already
    "Connection": "keep-alive",
}
REDIRECTS = 10
POOLS = 8  # hosts whose connections are kept open; each may have as many as there are threads
HOSTS = 1024  # whose proxies are remembered
MAX_BODY_BYTES = 32 * 2**20  # bytes that the answer of an interface may have
T = TypeVar("T")


class _Adapter(HTTPAdapter):
    def __init__(self, pool_size: int, allow_private: bool) -> None:
        self._pools = connections.pools(allow_private)
        super().__init__(pool_connections=POOLS, pool_maxsize=pool_size)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **options)
        # A proxy is the user's own word, so it may be private.
        manager.pool_classes_by_scheme = connections.pools(allow_private=True)
        return manager


def _private(asked: str, address: str) -> FetchError:
    return FetchError(
        SkipReason.PRIVATE_ADDRESS,
        f"{asked} leads to the private address {address}: set acquire.allow_private=true if that "
        "is meant",
    )


class Client:
    """One pool of connections, shared by all threads."""

    def __init__(self, params: AcquireParams, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.limiter = RateLimiter(params.per_host_per_second, self.policy.max_pause)
        self._limits = params
        self._proxies: dict[tuple[str, str], dict[str, str]] = {}
        self._session = _Session(_Adapter(params.workers, params.allow_private))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.limiter.stopped.set()
        self._session.close()

    def retry(self, operation: Callable[[], T]) -> T:
        """The result of `operation`, tried again while it fails in ways that may pass.

        Raises:
            Failure: the last one, or the first that no further attempt would mend.
        """
        pause = self.policy.pause
        for attempt in range(1, self.policy.attempts + 1):
            try:
                return operation()
            except FetchError as failure:
                last = attempt == self.policy.attempts or self.limiter.stopped.is_set()
                too_long = (failure.after or 0) > self.policy.max_pause
                if last or too_long or not failure.transient:
                    raise
            self.limiter.stopped.wait(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, self.policy.max_pause)
        raise AssertionError("an attempt returns or raises")

    def library_session(self, host: str | None = None) -> requests.Session:
        """A session for a library that asks by itself: one attempt, a `Failure` if it fails.

        `persist` around the library's call tries again. The address of an interface is the user's
        own word, so it may be private.

        Args:
            host: Whose limits hold, where the interface may be a proxy of it.
        """
        return _LibrarySession(self, host)

    @contextmanager
    def open(
        self, url: str, headers: Mapping[str, str] | None = None, as_sent: bool = False
    ) -> "Iterator[Response]":
        """One answer of status 200 or 206, after redirects, each checked before it is followed.

        Args:
            as_sent: Whether a body that is packed for the way (Content-Encoding) stays so.

        Raises:
            Failure: the address is refused, does not answer, or answers anything else.
        """
        for _ in range(REDIRECTS + 1):
            with self._ask(url, headers or {}) as response:
                if response.is_redirect:
                    url = _joined(url, response.headers["Location"])
                    continue
                self.check_response(
                    response, url, parse_host(url), ranged="Range" in (headers or {})
                )
                yield Response(response, url, self.policy, as_sent)
                return
        raise FetchError(SkipReason.REFUSED, f"{url} redirects more than {REDIRECTS} times")

    def _ask(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        proxies = self.wait_for_turn(url)
        # A proxy connects in our place, so the name is all there is to look at.
        looked_up = proxies and not self._limits.allow_private
        if looked_up and (private := find_private_address(parse_host(url))):
            raise _private(url, private)
        try:
            return self._session.send(
                _prepared(url, HEADERS | dict(headers)),
                stream=True,
                allow_redirects=False,
                proxies=proxies,
                timeout=(self.policy.connect_timeout, self.policy.read_timeout),
            )
        except connections.PrivateAddress as error:
            raise _private(url, str(error)) from error
        except BROKEN as error:
            raise unreachable(url, error) from error

    def wait_for_turn(self, url: str, limited_as: str | None = None) -> dict[str, str]:
        """Wait until the host may be asked; return the proxies that lead to it."""
        host = parse_host(url)
        self.limiter.wait(limited_as or host)
        if self.limiter.stopped.is_set():
            raise FetchError(SkipReason.UNREACHABLE, f"{url} is not wanted any more")
        scheme = url.partition(":")[0].lower()
        found = self._proxies.get((scheme, host))
        if found is None:  # finding them costs as much as a request
            name = f"[{host}]" if ":" in host else host
            found = dict(requests.utils.get_environ_proxies(f"{scheme}://{name}/"))
            if len(self._proxies) >= HOSTS:
                self._proxies.clear()
            self._proxies[scheme, host] = found
        return found

    def check_response(
        self, response: requests.Response, url: str, host: str, ranged: bool = False
    ) -> None:
        """Raise Failure unless an answer is what was asked for; let the host rest if it says so."""
        status = response.status_code
        partial = ranged and status == requests.codes.partial_content
        if status != requests.codes.ok and not partial:
            failure = refusal(response, url)
            if failure.after is not None:
                self.limiter.pause(host, failure.after)
            raise failure
        unwanted = opts_out(response.headers.get("X-Robots-Tag", ""))
        if unwanted and self._limits.respect_robots:
            raise FetchError(
                SkipReason.ROBOTS,
                f"{url} asks not to be used for machine learning (X-Robots-Tag): leave it, or set "
                "acquire.respect_robots=false",
            )


class _Session(requests.Session):
    """Says who it is, and takes nothing from ~/.netrc."""

    def __init__(self, adapter: HTTPAdapter) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, adapter)
        self.trust_env = False
        self.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        self.headers.update(HEADERS)
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # none is kept

    def get_redirect_target(self, _: requests.Response) -> None:
        """None: requests would read the body of a redirect, however long."""


class _LibrarySession(_Session):
    def __init__(self, client: Client, host: str | None) -> None:
        super().__init__(_Adapter(1, allow_private=True))
        self._client = client
        self._host = host

    def request(self, method: str, url: str, **options: Any) -> requests.Response:  # type: ignore[override]
        policy = self._client.policy
        options |= {
            "timeout": (policy.connect_timeout, policy.read_timeout),
            "stream": True,
            "allow_redirects": False,
            "proxies": self._client.wait_for_turn(url, self._host),
        }
        named = parse_host(url)  # the address itself may hold a password
        try:
            response = super().request(method, url, **options)
        except BROKEN as error:
            raise unreachable(named, error) from error
        with response:
            self._client.check_response(response, named, self._host or named)
            # What `content` gives from now on: read here, within bounds.
            response._content = b"".join(Response(response, named, policy).blocks(MAX_BODY_BYTES))
        return response


def _prepared(url: str, headers: Mapping[str, str]) -> requests.PreparedRequest:
    """A GET without cookies or authorisation: merging what we never have costs a tenth of it."""
    request = requests.PreparedRequest()
    request.prepare_method("GET")
    request.prepare_url(url, None)
    request.prepare_headers(headers)
    request.prepare_cookies({})
    return request


def _joined(url: str, location: str) -> str:
    try:
        # Headers arrive as if they were latin-1; many write UTF-8.
        return urljoin(url, location.encode("latin-1").decode())
    except ValueError as error:
        raise FetchError(SkipReason.BAD_ADDRESS, f"{url} redirects to no address") from error
