"""Response: a body read within limits of size and time, and why other responses fail."""

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import requests
import urllib3

from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web import connections
from pipeline.stages.acquire.web.fetch_error import FetchError
from pipeline.stages.acquire.web.retry import Policy

BLOCK = 2**18  # bytes
TRANSIENT_STATUSES = {408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524}
REASONS = {
    404: SkipReason.GONE,
    410: SkipReason.GONE,
    401: SkipReason.FORBIDDEN,
    403: SkipReason.FORBIDDEN,
    451: SkipReason.FORBIDDEN,
}
BLANK = b"\xef\xbb\xbf \t\r\n"  # may precede markup
OPT_OUT_DIRECTIVES = {"noai", "noimageai"}  # of X-Robots-Tag
# Raised by requests and urllib3 for an incomplete response. ValueError: a malformed header.
BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError)


class Response:
    """A response with status 200 or 206, with its body still to be read."""

    def __init__(
        self, response: requests.Response, url: str, policy: Policy, as_sent: bool = False
    ) -> None:
        """`as_sent`: do not decompress a body with a Content-Encoding."""
        self.url = url
        """After redirects."""
        self.headers = response.headers
        self.partial = response.status_code == requests.codes.partial_content
        """Whether the body is the requested range, and not the whole file."""
        self._decompress = "Content-Encoding" in self.headers and not as_sent
        self._raw: Any = response.raw  # urllib3's, with the socket that `connections` adds
        self._policy = policy

    @property
    def length(self) -> int | None:
        """Bytes of the body by Content-Length; None if it is missing, invalid, or compressed."""
        length = self.headers.get("Content-Length", "")
        is_valid = re.fullmatch("[0-9]{1,18}", length) and not self._decompress
        return int(length) if is_valid else None

    @property
    def opted_out(self) -> bool:
        """Whether the owner forbids machine learning with it."""
        return opts_out(self.headers.get("X-Robots-Tag", ""))

    @property
    def starts_at(self) -> int:
        """Offset of the body in the file, in bytes; -1 if Content-Range is invalid."""
        if not self.partial:
            return 0
        match = re.match(r"bytes (\d{1,18})-", self.headers.get("Content-Range", ""))
        return int(match[1]) if match else -1

    @property
    def validator(self) -> str:
        """A value for If-Range: a strong ETag, or a date; empty if there is neither."""
        etag = self.headers.get("ETag", "")
        is_strong = etag.startswith('"') and not self._decompress
        return etag if is_strong else self.headers.get("Last-Modified", "")

    def blocks(self, max_bytes: float) -> Iterator[bytes]:
        """Yield the body.

        Raises:
            FetchError: it is too large, incomplete, or too slow.
        """
        received = 0
        start = time.monotonic()
        if (self.length or 0) > max_bytes:
            raise self._too_large(max_bytes)
        while block := self._read_block():
            received += len(block)
            if received > max_bytes:
                raise self._too_large(max_bytes)
            yield block
            late = time.monotonic() - start - self._policy.read_timeout
            if late > 0 and received < late * self._policy.min_rate:
                raise FetchError(SkipReason.UNREACHABLE, f"{self.url} sends too slowly", True)
        # An empty body without a length is an error: truncated headers look like that.
        expected = max(received, 1) if self.length is None else self.length
        if received != expected:
            message = f"{self.url} sent {received} of {expected} bytes"
            raise FetchError(SkipReason.UNREACHABLE, message, transient=True)

    def _too_large(self, max_bytes: float) -> FetchError:
        return FetchError(SkipReason.TOO_LARGE, f"{self.url} is larger than {max_bytes:.0f} bytes")

    def _read_block(self) -> bytes:
        try:
            # read1 returns what has arrived; read would wait for a full block.
            with connections.deadline(self._raw.connected, self._policy.read_timeout):
                block: bytes = self._raw.read1(BLOCK, decode_content=self._decompress)
                return block
        except BROKEN as error:
            raise unreachable_error(self.url, error) from error


def status_error(response: requests.Response, url: str) -> FetchError:
    """The error for a status other than 200 and 206."""
    status = response.status_code
    transient = status in TRANSIENT_STATUSES
    default = SkipReason.UNREACHABLE if transient else SkipReason.REFUSED
    message = f"{url} answers {status} {response.reason or ''}".rstrip()
    retry_after = _parse_retry_after(response.headers)
    return FetchError(REASONS.get(status, default), message, transient, status, retry_after)


def unreachable_error(url: str, error: Exception) -> FetchError:
    """The error for an exception of requests or urllib3."""
    timeouts = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    match error:
        case requests.exceptions.InvalidURL() | requests.exceptions.InvalidSchema():
            return FetchError(SkipReason.BAD_ADDRESS, f"{url} is not a valid address")
        case requests.exceptions.SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return FetchError(SkipReason.UNREACHABLE, f"{url} has no trusted certificate")
        case _ if isinstance(error, timeouts):
            problem = "does not answer in time"
        case requests.ConnectionError():
            problem = "cannot be reached"
        case _:
            problem = "breaks the connection"
    return FetchError(SkipReason.UNREACHABLE, f"{url} {problem}", transient=True)


def _parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds; None if the header is missing or invalid."""
    try:
        return float(urllib3.Retry().parse_retry_after(headers.get("Retry-After", "")))
    except (urllib3.exceptions.InvalidHeader, OverflowError, ValueError):
        return None


def opts_out(tag: str) -> bool:
    """Whether an X-Robots-Tag forbids machine learning; `name: directive` is for one robot."""
    return not OPT_OUT_DIRECTIVES.isdisjoint(part.strip().lower() for part in tag.split(","))


def is_markup(start: bytes) -> bool:
    """Whether a body that begins like this is HTML or XML, and so no image and no archive."""
    return start.lstrip(BLANK)[:1] == b"<"
