"""What a server says: a body within bounds, or a reason."""

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import requests
import urllib3

from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web import connections
from pipeline.stages.acquire.web.fetch_error import FetchError
from pipeline.stages.acquire.web.rate_limit import Policy

BLOCK = 2**18  # bytes
TRANSIENT = {408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524}
REASONS = {
    404: SkipReason.GONE,
    410: SkipReason.GONE,
    401: SkipReason.FORBIDDEN,
    403: SkipReason.FORBIDDEN,
    451: SkipReason.FORBIDDEN,
}
BLANK = b"\xef\xbb\xbf \t\r\n"  # what may stand before markup
OPT_OUT_DIRECTIVES = {"noai", "noimageai"}  # X-Robots-Tag: what the owner does not want done
# What requests and urllib3 raise for an answer that never came whole. ValueError: a hostile header.
BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError)


class Response:
    """What a server says, as it comes in."""

    def __init__(
        self, response: requests.Response, url: str, policy: Policy, as_sent: bool = False
    ) -> None:
        """`as_sent`: a body that is packed for the way stays so."""
        self.url = url
        """Where it came from, after redirects."""
        self.headers = response.headers
        self.partial = response.status_code == requests.codes.partial_content
        """Whether it is the range that was asked for, and not the whole."""
        self._packed = "Content-Encoding" in self.headers and not as_sent
        self._raw: Any = response.raw  # of urllib3, with the socket that guard puts there
        self._policy = policy

    @property
    def length(self) -> int | None:
        """Bytes of the body as the server states them; None where it does not, or packs them."""
        stated = self.headers.get("Content-Length", "")
        sound = re.fullmatch("[0-9]{1,18}", stated) and not self._packed
        return int(stated) if sound else None

    @property
    def opted_out(self) -> bool:
        """Whether its owner wants no machine learning with it."""
        return opts_out(self.headers.get("X-Robots-Tag", ""))

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
        strong = etag.startswith('"') and not self._packed
        return etag if strong else self.headers.get("Last-Modified", "")

    def blocks(self, most: float) -> Iterator[bytes]:
        """The body, whole or not at all.

        Raises:
            Failure: it has more than `most` bytes, fewer than stated, or comes too slowly.
        """
        received = 0
        start = time.monotonic()
        if (self.length or 0) > most:
            raise FetchError(SkipReason.TOO_LARGE, f"{self.url} is larger than {most:.0f} bytes")
        while block := self._next():
            received += len(block)
            if received > most:
                raise FetchError(
                    SkipReason.TOO_LARGE, f"{self.url} is larger than {most:.0f} bytes"
                )
            yield block
            late = time.monotonic() - start - self._policy.read_timeout
            if late > 0 and received < late * self._policy.min_rate:
                raise FetchError(
                    SkipReason.UNREACHABLE, f"{self.url} sends too slowly", transient=True
                )
        # Headers that were cut off look whole: they state no length, and nothing follows.
        expected = max(received, 1) if self.length is None else self.length
        if received != expected:
            said = f"{self.url} sent {received} of {expected} bytes"
            raise FetchError(SkipReason.UNREACHABLE, said, transient=True)

    def _next(self) -> bytes:
        try:
            # read1 returns what there is; read would wait for a whole block, for ever if it drips.
            with connections.watched(self._raw.connected, self._policy.read_timeout):
                block: bytes = self._raw.read1(BLOCK, decode_content=self._packed)
                return block
        except BROKEN as error:
            raise unreachable(self.url, error) from error


def refusal(response: requests.Response, url: str) -> FetchError:
    status = response.status_code
    transient = status in TRANSIENT
    reason = REASONS.get(status, SkipReason.UNREACHABLE if transient else SkipReason.REFUSED)
    said = f"{url} answers {status} {response.reason or ''}".rstrip()
    return FetchError(reason, said, transient, status, _retry_after(response.headers))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        return float(urllib3.Retry().parse_retry_after(headers.get("Retry-After", "")))
    except (urllib3.exceptions.InvalidHeader, OverflowError, ValueError):
        return None


def opts_out(tag: str) -> bool:
    """Directives are separated by commas; one after `name:` is meant for that robot alone."""
    return not OPT_OUT_DIRECTIVES.isdisjoint(part.strip().lower() for part in tag.split(","))


def unreachable(url: str, error: Exception) -> FetchError:
    """What an exception of requests or urllib3 means."""
    late = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    match error:
        case requests.exceptions.InvalidURL() | requests.exceptions.InvalidSchema():
            return FetchError(SkipReason.BAD_ADDRESS, f"{url} is no address that can be asked")
        case requests.exceptions.SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return FetchError(
                SkipReason.UNREACHABLE, f"{url} has no certificate that can be trusted"
            )
        case _ if isinstance(error, late):
            said = "gives no answer in time"
        case requests.ConnectionError():
            said = "cannot be reached"
        case _:
            said = "breaks the connection"
    return FetchError(SkipReason.UNREACHABLE, f"{url} {said}", transient=True)


def is_page(start: bytes) -> bool:
    """Whether a body that begins so is markup: no image that the filter reads does, nor archive."""
    return start.lstrip(BLANK)[:1] == b"<"
