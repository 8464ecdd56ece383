"""HTTP client for servers that are not trusted.

A `Client` limits its rate per host, retries what may succeed, checks every URL before it requests
it, and turns every failure into a `FetchError` with a reason.
"""

import os
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
from pipeline.stages.acquire.web.rate_limit import RateLimiter
from pipeline.stages.acquire.web.response import (
    BROKEN,
    Response,
    opts_out,
    status_error,
    unreachable_error,
)
from pipeline.stages.acquire.web.retry import Policy, retry
from pipeline.stages.acquire.web.url_policy import find_private_address, parse_host

HEADERS = {
    "User-Agent": f"image-pipeline/{__version__} (python-requests/{requests.__version__})",
    "Accept": "*/*",
    "Accept-Encoding": "identity",  # photographs and archives are compressed already
    "Connection": "keep-alive",
}
MAX_REDIRECTS = 10
POOLS = 8  # hosts with open connections; each may have as many as there are threads
MAX_PROXY_HOSTS = 1024  # entries in the cache of proxies
MAX_API_BYTES = 32 * 2**20  # of a response to a library
T = TypeVar("T")


class Client:
    """One pool of connections, shared by all threads."""

    def __init__(self, params: AcquireParams, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.limiter = RateLimiter(params.per_host_per_second, self.policy.max_pause)
        self._params = params
        self._proxies: dict[tuple[str, str], dict[str, str]] = {}
        self._session = _PlainSession(_Adapter(params.workers, params.allow_private))

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
        """Return the result of `operation`, retried after transient errors.

        Raises:
            FetchError: of the last attempt, or the first one that is not transient.
        """
        return retry(operation, self.policy, self.limiter.stopped)

    def library_session(self, host: str | None = None) -> requests.Session:
        """Return a session for a library: one attempt per request, FetchError on failure.

        To retry, wrap the library's call in `retry`. Private addresses are allowed: the URL of an
        API comes from the user.

        Args:
            host: Apply the rate limit of this host, for a URL that may be a proxy of it.
        """
        return _LibrarySession(self, host)

    @contextmanager
    def open(
        self, url: str, headers: Mapping[str, str] | None = None, as_sent: bool = False
    ) -> "Iterator[Response]":
        """Request a URL once and yield the response after redirects, each checked like the URL.

        Args:
            as_sent: Do not decompress a body with a Content-Encoding.

        Raises:
            FetchError: the URL is not allowed, or the status is not 200 or 206.
        """
        for _ in range(MAX_REDIRECTS + 1):
            with self._request(url, headers or {}) as response:
                if response.is_redirect:
                    url = _join_url(url, response.headers["Location"])
                    continue
                is_ranged = "Range" in (headers or {})
                self.check_response(response, url, parse_host(url), is_ranged)
                yield Response(response, url, self.policy, as_sent)
                return
        raise FetchError(SkipReason.REFUSED, f"{url} redirects more than {MAX_REDIRECTS} times")

    def _request(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        proxies = self.wait_for_turn(url)
        # With a proxy only the name can be checked, not the connection.
        is_checked_by_name = proxies and not self._params.allow_private
        if is_checked_by_name and (private := find_private_address(parse_host(url))):
            raise _private_error(url, private)
        try:
            return self._session.send(
                _prepare(url, HEADERS | dict(headers)),
                stream=True,
                allow_redirects=False,
                proxies=proxies,
                timeout=(self.policy.connect_timeout, self.policy.read_timeout),
            )
        except connections.PrivateAddress as error:
            raise _private_error(url, str(error)) from error
        except BROKEN as error:
            raise unreachable_error(url, error) from error

    def wait_for_turn(self, url: str, limited_as: str | None = None) -> dict[str, str]:
        """Wait for the rate limit of the host; return its proxies."""
        host = parse_host(url)
        self.limiter.wait(limited_as or host)
        if self.limiter.stopped.is_set():
            raise FetchError(SkipReason.UNREACHABLE, f"{url} is no longer needed")
        scheme = url.partition(":")[0].lower()
        proxies = self._proxies.get((scheme, host))
        if proxies is None:  # finding them takes as long as a request
            name = f"[{host}]" if ":" in host else host
            proxies = dict(requests.utils.get_environ_proxies(f"{scheme}://{name}/"))
            if len(self._proxies) >= MAX_PROXY_HOSTS:
                self._proxies.clear()
            self._proxies[scheme, host] = proxies
        return proxies

    def check_response(
        self, response: requests.Response, url: str, host: str, is_ranged: bool = False
    ) -> None:
        """Raise FetchError for a bad status or an opt-out; pause the host if it requests that."""
        status = response.status_code
        is_partial = is_ranged and status == requests.codes.partial_content
        if status != requests.codes.ok and not is_partial:
            error = status_error(response, url)
            if error.retry_after is not None:
                self.limiter.pause(host, error.retry_after)
            raise error
        if self._params.respect_robots and opts_out(response.headers.get("X-Robots-Tag", "")):
            raise FetchError(
                SkipReason.ROBOTS,
                f"{url} must not be used for machine learning (X-Robots-Tag): leave it out, or set "
                "acquire.respect_robots=false",
            )


class _Adapter(HTTPAdapter):
    def __init__(self, pool_size: int, allow_private: bool) -> None:
        self._pool_classes = connections.pool_classes(allow_private)
        super().__init__(pool_connections=POOLS, pool_maxsize=pool_size)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = self._pool_classes

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **options)
        # The user configures proxies, so they may be private.
        manager.pool_classes_by_scheme = connections.pool_classes(allow_private=True)
        return manager


class _PlainSession(requests.Session):
    """Sends our User-Agent and ignores ~/.netrc and cookies."""

    def __init__(self, adapter: HTTPAdapter) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, adapter)
        self.trust_env = False
        self.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        self.headers.update(HEADERS)
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def get_redirect_target(self, _: requests.Response) -> None:
        """None: requests would read the body of a redirect, however long."""


class _LibrarySession(_PlainSession):
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
        host = parse_host(url)  # for messages, because the URL may contain a password
        try:
            response = super().request(method, url, **options)
        except BROKEN as error:
            raise unreachable_error(host, error) from error
        with response:
            self._client.check_response(response, host, self._host or host)
            # What `response.content` returns: read here, within limits.
            response._content = b"".join(Response(response, host, policy).blocks(MAX_API_BYTES))
        return response


def _prepare(url: str, headers: Mapping[str, str]) -> requests.PreparedRequest:
    """Prepare a GET directly: merging cookies and authorisation would take a tenth of its time."""
    request = requests.PreparedRequest()
    request.prepare_method("GET")
    request.prepare_url(url, None)
    request.prepare_headers(headers)
    request.prepare_cookies({})
    return request


def _join_url(url: str, location: str) -> str:
    try:
        # requests decodes headers as latin-1; many servers send UTF-8.
        return urljoin(url, location.encode("latin-1").decode())
    except ValueError as error:
        raise FetchError(SkipReason.BAD_ADDRESS, f"{url} redirects to no address") from error


def _private_error(url: str, address: str) -> FetchError:
    return FetchError(
        SkipReason.PRIVATE_ADDRESS,
        f"{url} leads to the private address {address}: set acquire.allow_private=true if that "
        "is meant",
    )
