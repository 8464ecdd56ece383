"""One large file: resumed by Range where it was interrupted, checked whole, kept in the store."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock

from pipeline.core.errors import PipelineError
from pipeline.core.progress import bar
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.content_store import ContentStore
from pipeline.stages.acquire.web.fetch_error import FetchError
from pipeline.stages.acquire.web.response import is_page

PREFIX = 4096  # bytes


@dataclass(frozen=True)
class ExpectedFile:
    """What is known of a file before it is fetched."""

    size: int | None = None
    """Bytes."""
    sha256: str | None = None
    md5: str | None = None


def download(
    url: str, expected: ExpectedFile, client: Client, store: ContentStore, most: float
) -> Path:
    """Where the file behind `url` stands, fetched if it is not there.

    Without a checksum in `expected`, the digest of the first download is recorded, and every later
    one must have it.

    Args:
        most: Bytes past which it is refused.

    Raises:
        PipelineError: the address is refused or does not answer, the file is too large, or not
            what is expected. What has come is kept, and the next try goes on from there.
    """
    part = store.partial_path(url)
    with FileLock(part.with_suffix(".lock")):  # experiments that start together download it once
        recorded = store.find_sha256(url)
        known = expected.sha256 or recorded
        if known and store.archive_path(known).exists():
            here = store.archive_path(known)
            if not _problem(here, _digest(here, "sha256"), expected, known):
                return here
        print(f"acquire: downloading {url}", flush=True)
        try:
            _fetch(url, part, expected, client, most)
        except FetchError as failure:
            raise PipelineError(_told(failure, most)) from failure
        sha256 = _digest(part, "sha256")
        _sidecar(part).unlink(missing_ok=True)
        problem = _problem(part, sha256, expected, recorded)
        with part.open("rb") as file:
            if is_page(file.read(PREFIX)):
                problem = "is a web page, and no archive: look at it in a browser"
        if problem:
            part.unlink()
            raise PipelineError(f"{url} {problem}")
        store.add_archive(part, url, sha256)
    if recorded is None and not (expected.sha256 or expected.md5):
        print(f"acquire: {url} has sha256 {sha256}, and is held to it from now on")
    return store.archive_path(sha256)


def _problem(path: Path, sha256: str, expected: ExpectedFile, recorded: str | None) -> str | None:
    """What is wrong with a file, if anything is."""
    damaged = "the download is damaged, or the file behind the address was replaced"
    size = path.stat().st_size
    if expected.size not in {None, size}:
        return f"has {size} bytes, but dataset.toml says {expected.size}: {damaged}"
    for name, wanted in (("sha256", expected.sha256), ("md5", expected.md5)):
        if wanted and (found := sha256 if name == "sha256" else _digest(path, name)) != wanted:
            return f"has {name} {found}, but dataset.toml says {wanted}: {damaged}"
    if not (expected.sha256 or expected.md5) and recorded not in {None, sha256}:
        return (
            f"has sha256 {sha256}, but had {recorded} when it was first fetched: if the change is "
            f'meant, write sha256 = "{sha256}" in dataset.toml'
        )
    return None


def _told(failure: FetchError, most: float) -> str:
    if failure.reason is SkipReason.TOO_LARGE:
        return f"{failure} (acquire.max_gigabytes={most / 1e9:g})"
    if failure.reason in {SkipReason.PRIVATE_ADDRESS, SkipReason.ROBOTS}:
        return str(failure)  # it says what to do
    return f"{failure}: try again, or give a copy with -S dataset.source=PATH"


def _fetch(url: str, part: Path, expected: ExpectedFile, client: Client, most: float) -> None:
    while True:
        before, start = _size(part), time.monotonic()
        try:
            client.retry(partial(_resume, url, part, expected, client, most))
            return
        except FetchError as failure:
            if failure.reason is SkipReason.TOO_LARGE:
                part.unlink(missing_ok=True)
            least = max(1, client.policy.min_rate * (time.monotonic() - start))
            if not failure.transient or _size(part) - before < least:
                raise  # else it breaks often, but gets on


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _resume(url: str, part: Path, expected: ExpectedFile, client: Client, most: float) -> None:
    """Append what is missing, or start again where the server cannot go on."""
    total, validator = _remembered(part)
    size = _size(part)
    # Without a validator, only a checksum tells whether both halves are of one file.
    resumable = size > 0 and bool(validator or expected.sha256 or expected.md5)
    if resumable and size == total:
        return
    headers = {"Range": f"bytes={size}-"} if resumable else {}
    if resumable and validator:
        headers["If-Range"] = validator
    with _starting_over_at_416(part), client.open(url, headers, as_sent=True) as answer:
        if answer.starts_at != (size if answer.partial else 0):
            part.unlink()
            raise FetchError(
                SkipReason.UNREACHABLE, f"{url} sends another range than asked for", True
            )
        size = answer.starts_at
        length = None if answer.length is None else size + answer.length
        with (
            part.open("ab") as file,
            bar(f"download {urlsplit(url).hostname}", length, "B", scale=True) as shown,
        ):
            file.truncate(size)
            # Not before: what is said of the new file must not stand beside half of the old one.
            _sidecar(part).write_text(f"{length or 0} {answer.validator}", encoding="utf-8")
            shown.update(size)
            for block in answer.blocks(most - size):
                file.write(block)
                shown.update(len(block))


@contextmanager
def _starting_over_at_416(part: Path) -> Iterator[None]:
    """A server that has no such range has another file now."""
    try:
        yield
    except FetchError as failure:
        if failure.status != 416:
            raise
        part.unlink(missing_ok=True)
        raise FetchError(failure.reason, str(failure), transient=True) from failure


def _sidecar(part: Path) -> Path:
    """What the server said of the file: its length, and how to know it again."""
    return part.with_suffix(".about")


def _remembered(part: Path) -> tuple[int, str]:
    try:
        length, _, validator = _sidecar(part).read_text(encoding="utf-8").partition(" ")
    except FileNotFoundError:
        return 0, ""
    return int(length) if length.isdecimal() else 0, validator


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
