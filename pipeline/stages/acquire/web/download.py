"""Download one large file: resumed with Range, checked, and moved into the store."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock

from pipeline.core import file_digests
from pipeline.core.errors import PipelineError
from pipeline.core.progress import bar
from pipeline.core.terminal import print_line, warn, without_secrets
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.content_store import ContentStore
from pipeline.stages.acquire.web.fetch_error import FetchError
from pipeline.stages.acquire.web.response import is_markup

PREFIX = 4096  # bytes


@dataclass(frozen=True)
class ExpectedFile:
    """What dataset.toml states about a file."""

    size: int | None = None
    """In bytes."""
    sha256: str | None = None
    md5: str | None = None

    def find_difference(self, path: Path, sha256: str | None = None) -> str | None:
        """Compare a file with what dataset.toml states; return the end of a sentence, or None.

        Args:
            sha256: That of the file, if it is known.
        """
        size = path.stat().st_size
        if self.size not in {None, size}:
            return f"has {size} bytes, but dataset.toml says {self.size}"
        if self.sha256 and (actual := sha256 or file_digests.sha256(path)) != self.sha256:
            return f"has sha256 {actual}, but dataset.toml says {self.sha256}"
        if self.md5 and (actual := file_digests.md5(path)) != self.md5:
            return f"has md5 {actual}, but dataset.toml says {self.md5}"
        return None


def download(
    url: str, expected: ExpectedFile, client: Client, store: ContentStore, max_bytes: float
) -> Path:
    """Return the path of the file behind `url`, downloaded unless the store has it.

    Without a checksum in `expected`, the sha256 of the first download is recorded, and later
    downloads must match it.

    Raises:
        PipelineError: the URL is not allowed or not reachable, the file is larger than
            `max_bytes`, or is not as expected. The next call resumes what has arrived.
    """
    part = store.partial_path(url)
    with FileLock(part.with_suffix(".lock")):  # one process downloads, others wait
        recorded = store.find_sha256(url)
        digest = expected.sha256 or recorded
        if digest and store.archive_path(digest).exists():
            path = store.archive_path(digest)
            sha256 = file_digests.sha256(path)
            if not _find_problem(path, sha256, expected, digest):
                return path
            if sha256 != digest:
                warn(f"{path} is damaged: it is downloaded again")
        print_line(f"acquire: downloading {without_secrets(url)}")
        try:
            _fetch(url, part, expected, client, max_bytes)
        except FetchError as error:
            raise PipelineError(_message(error, max_bytes)) from error
        sha256 = file_digests.sha256(part)
        _sidecar(part).unlink(missing_ok=True)
        problem = _find_problem(part, sha256, expected, recorded)
        with part.open("rb") as file:
            if is_markup(file.read(PREFIX)):
                problem = "is a web page, neither archive nor table: open it in a browser"
        if problem:
            part.unlink()
            raise PipelineError(f"{url} {problem}")
        store.add_archive(part, url, sha256)
    if recorded is None and not (expected.sha256 or expected.md5):
        address = without_secrets(url)
        print_line(f"acquire: {address} has sha256 {sha256}; later downloads must match it")
    return store.archive_path(sha256)


def _find_problem(
    path: Path, sha256: str, expected: ExpectedFile, recorded: str | None
) -> str | None:
    """Compare a file with what is expected; return the end of a sentence, or None."""
    if difference := expected.find_difference(path, sha256):
        return f"{difference}: the download is damaged, or the file behind the address was replaced"
    if not (expected.sha256 or expected.md5) and recorded not in {None, sha256}:
        return (
            f"has sha256 {sha256}, but the first download had {recorded}: if the change is "
            f'intended, write sha256 = "{sha256}" in dataset.toml'
        )
    return None


def _message(error: FetchError, max_bytes: float) -> str:
    if error.reason is SkipReason.TOO_LARGE:
        return f"{error} (acquire.max_gigabytes={max_bytes / 1e9:g})"
    if error.reason in {SkipReason.PRIVATE_ADDRESS, SkipReason.ROBOTS}:
        return str(error)  # has advice already
    return f"{error}: try again, or use a copy with -S dataset.source=PATH"


def _fetch(url: str, part: Path, expected: ExpectedFile, client: Client, max_bytes: float) -> None:
    """Resume until the file is complete, as long as rounds of attempts make progress."""
    while True:
        before, start = _size(part), time.monotonic()
        try:
            client.retry(partial(_resume, url, part, expected, client, max_bytes))
            return
        except FetchError as error:
            if error.reason is SkipReason.TOO_LARGE:
                part.unlink(missing_ok=True)
            min_progress = max(1, client.policy.min_rate * (time.monotonic() - start))  # bytes
            if not error.transient or _size(part) - before < min_progress:
                raise


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _resume(url: str, part: Path, expected: ExpectedFile, client: Client, max_bytes: float) -> None:
    """Append the rest of the file, or start over if the server does not send the range."""
    total, validator = _read_sidecar(part)
    size = _size(part)
    # Without a validator, only a checksum can prove that both halves are of the same file.
    is_resumable = size > 0 and bool(validator or expected.sha256 or expected.md5)
    if is_resumable and size == total:
        return
    headers = {"Range": f"bytes={size}-"} if is_resumable else {}
    if is_resumable and validator:
        headers["If-Range"] = validator
    with _starting_over_at_416(part), client.open(url, headers, as_sent=True) as response:
        if response.starts_at != (size if response.partial else 0):
            part.unlink()
            message = f"{url} sends another range than requested"
            raise FetchError(SkipReason.UNREACHABLE, message, transient=True)
        size = response.starts_at
        length = None if response.length is None else size + response.length
        with (
            part.open("ab") as file,
            bar(
                f"download {urlsplit(url).hostname}", length, "B", scale=True, done=size
            ) as progress,
        ):
            file.truncate(size)
            # After the truncation: the sidecar must not describe the old half of another file.
            _sidecar(part).write_text(f"{length or 0} {response.validator}", encoding="utf-8")
            for block in response.blocks(max_bytes - size):
                file.write(block)
                progress.update(len(block))


@contextmanager
def _starting_over_at_416(part: Path) -> Iterator[None]:
    """Turn 416 (no such range: the file was replaced) into a transient error."""
    try:
        yield
    except FetchError as error:
        if error.status != 416:
            raise
        part.unlink(missing_ok=True)
        raise FetchError(error.reason, str(error), transient=True) from error


def _sidecar(part: Path) -> Path:
    """The file beside `part` with its total length and its validator for If-Range."""
    return part.with_suffix(".about")


def _read_sidecar(part: Path) -> tuple[int, str]:
    try:
        length, _, validator = _sidecar(part).read_text(encoding="utf-8").partition(" ")
    except FileNotFoundError:
        return 0, ""
    return int(length) if length.isdecimal() else 0, validator
