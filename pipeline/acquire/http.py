"""Downloads; the only importer of requests."""

import hashlib
import ipaddress
import os
import socket
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests

from pipeline import __version__, atomic, project
from pipeline.errors import PipelineError
from pipeline.params import Acquire
from pipeline.progress import bar

USER_AGENT = f"image-pipeline/{__version__} (python-requests)"
CONNECT_SECONDS, READ_SECONDS = 10, 60
REDIRECTS = 10
BLOCK = 2**20  # bytes


def download(url: str, limits: Acquire, sha256: str | None = None, md5: str | None = None) -> Path:
    """Fetch `url` into .cache/downloads/, check it, and return where it stands.

    What has a checksum is fetched once.

    Raises:
        PipelineError: the address is refused or does not answer, the body is cut short, too large
            or not what the checksum says. Nothing half-fetched is kept.
    """
    _parse(url)
    name = Path(urlsplit(url).path).name or "download"
    key = hashlib.sha256(f"{url} {sha256} {md5}".encode()).hexdigest()[:20]
    target = project.cache() / "downloads" / key / name
    # What has no checksum may have changed behind its address.
    if not target.exists() or not (sha256 or md5):
        with atomic.replacing(target) as staged:
            try:
                _fetch(url, staged, limits)
            except requests.RequestException as error:
                raise PipelineError(
                    f"cannot download {url} ({_reason(error)}): try again, or give a copy with "
                    "-S dataset.source=PATH"
                ) from error
            _verify(staged, url, sha256, md5)
    return target


def _reason(error: requests.RequestException) -> str:
    match error:
        case requests.ConnectTimeout() | requests.ReadTimeout():
            return "no answer in time"
        case requests.HTTPError():
            return str(error)
        case requests.exceptions.ConnectionError() if isinstance(error.args[0], Exception):
            return "no connection"
    return str(error) or type(error).__name__


def _fetch(url: str, path: Path, limits: Acquire) -> None:
    with requests.Session() as session:
        session.headers["User-Agent"] = USER_AGENT
        with _open(session, url, limits) as answer, path.open("wb") as file:
            length = answer.headers.get("Content-Length")
            expected = int(length) if length and length.isdigit() else None
            received = 0
            with bar(f"download {urlsplit(url).hostname}", expected, "B", scale=True) as shown:
                for block in answer.iter_content(BLOCK):
                    received += len(block)
                    if received > limits.max_gigabytes * 1e9:
                        raise PipelineError(
                            f"{url} is larger than acquire.max_gigabytes={limits.max_gigabytes:g}"
                        )
                    file.write(block)
                    shown.update(len(block))
            file.flush()
            os.fsync(file.fileno())
    encoded = "Content-Encoding" in answer.headers  # then the length is that of other bytes
    if expected is not None and received != expected and not encoded:
        raise requests.ConnectionError(f"{received} of {expected} bytes")


def _open(session: requests.Session, url: str, limits: Acquire) -> requests.Response:
    """Follow redirects by hand, so that every address is checked before it is asked."""
    for _ in range(REDIRECTS):
        _refuse_foreign(url, limits)
        answer = session.get(
            url, stream=True, allow_redirects=False, timeout=(CONNECT_SECONDS, READ_SECONDS)
        )
        if answer.status_code == requests.codes.ok:
            return answer
        answer.close()
        if not answer.is_redirect:
            answer.raise_for_status()
            raise requests.HTTPError(f"status {answer.status_code} for url: {url}")
        url = urljoin(url, answer.headers["Location"])
    raise PipelineError(f"{url} redirects more than {REDIRECTS} times")


def _refuse_foreign(url: str, limits: Acquire) -> None:
    """Raise PipelineError for another scheme, or an address inside somebody's network."""
    host = _parse(url)
    if limits.allow_private:
        return
    try:
        found = socket.getaddrinfo(host, None)
    except socket.gaierror:
        return  # requests will say so
    for address in {entry[4][0] for entry in found}:
        known = ipaddress.ip_address(str(address).partition("%")[0])
        if not known.is_global or known.is_multicast:
            raise PipelineError(
                f"{url} leads to the private address {address}: set acquire.allow_private=true "
                "if that is meant"
            )


def _parse(url: str) -> str:
    """The host of an address that can be asked; PipelineError for any other."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        host.encode("idna")
        sound = parts.scheme in {"http", "https"} and bool(host) and parts.port != 0
    except ValueError:  # brackets, ports or labels that are none
        sound = False
    if not sound:
        raise PipelineError(f"{url} is no http or https address")
    return host


def _verify(path: Path, url: str, sha256: str | None, md5: str | None) -> None:
    for algorithm, expected in (("sha256", sha256), ("md5", md5)):
        if expected:
            with path.open("rb") as file:
                actual = hashlib.file_digest(file, algorithm).hexdigest()
            if actual != expected:
                raise PipelineError(
                    f"{url} has {algorithm} {actual}, but dataset.toml says {expected}: the "
                    "download is damaged, or the file behind the address was replaced"
                )
