"""Images by whatever name they have: files, folders, patterns, archives, URLs, standard input."""

import glob
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO, Self

from pipeline.core.errors import PipelineError
from pipeline.images.header import looks_like_image
from pipeline.inference.predict import NamedImage
from pipeline.params import AcquireParams
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources import class_folders, files
from pipeline.stages.acquire.sources.listing import SourceFile, to_text
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.fetch_error import FetchError

STDIN = "-"
URL = re.compile(r"https?://", re.IGNORECASE)
PATTERN = re.compile(r"[*?[]")
# How zip, gzip, bzip2, xz and tar begin.
ARCHIVE = re.compile(
    rb"PK\x03\x04|PK\x05\x06|\x1f\x8b|BZh[1-9]1AY&SY|\xfd7zXZ\0|.{257}ustar", re.DOTALL
)
CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")  # what no list of names, one a line, has
START = 512  # bytes, which tell what something is
MAX_LINE_BYTES = 2**16  # bytes of a name
BLOCK = 2**20  # bytes
LIMITS = AcquireParams(
    workers=1,
    per_host_per_second=None,
    max_missing_fraction=0,
    allow_private=False,
    max_gigabytes=20,
    max_file_megabytes=100,
    respect_robots=False,  # nothing is learnt from it
)


class ImageInputs:
    """What people name, as images, one at a time; what cannot be read is one with the reason."""

    def __init__(
        self,
        stdin: BinaryIO,
        params: AcquireParams = LIMITS,
        expect: Callable[[int], object] = lambda _: None,
    ) -> None:
        """`expect` is told how many more images will come, as soon as that is known."""
        self._limits = params
        self._stdin = stdin
        self._expect = expect
        self._client: Client | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def images(self, names: Iterable[str]) -> Iterator[NamedImage]:
        """The images of `names`, of which `-` is standard input."""
        for name in names:
            yield from self._from_stdin() if name == STDIN else self._of(name)

    def _of(self, name: str) -> Iterator[NamedImage]:
        """The images of one name, be it on the command line or in a list."""
        shown = to_text(name)
        if URL.match(name):
            yield from self._from_url(shown)
        elif os.path.isdir(name):  # noqa: PTH112 # it may be no path at all, and too long for one
            yield from self._inside(Path(name), shown)
        elif os.path.lexists(name) or not PATTERN.search(name):
            yield from self._from_file(Path(name), shown)
        elif found := sorted(glob.glob(name, recursive=True)):  # noqa: PTH207 # also absolute ones
            for each in found:
                yield from self._of(each)
        else:
            yield self._alone(shown, "nothing fits this pattern")

    def _alone(self, name: str, content: bytes | str) -> NamedImage:
        self._expect(1)
        return NamedImage(name, content)

    def _from_file(self, path: Path, name: str) -> Iterator[NamedImage]:
        try:
            if os.path.isfile(path) and _is_archive(path):  # noqa: PTH113 # as above
                yield from self._inside(path, name)
                return
            with path.open("rb") as file:
                content = self._within(file)
        except (OSError, ValueError) as error:  # ValueError: a zero byte
            content = _told(error)
        yield self._alone(name, content)

    def _within(self, file: BinaryIO, start: bytes = b"") -> bytes | str:
        """What a file holds, if that is not too much: its end may never come."""
        most = int(self._limits.max_file_megabytes * 1e6)
        content = start + file.read(most + 1 - len(start))
        return content if len(content) <= most else SkipReason.TOO_LARGE.value

    def _inside(self, path: Path, name: str) -> Iterator[NamedImage]:
        """The files of a folder or archive, but for those that systems hide."""
        limits = self._limits
        if path.is_dir():  # of which nothing is unpacked, so there may be any amount
            limits = limits.model_copy(update={"max_gigabytes": math.inf})
        with ExitStack() as stack:
            try:
                listing = stack.enter_context(files.open_listing(path, limits, strict=False))
            except PipelineError as error:
                yield self._alone(name, str(error).removeprefix(str(path)).strip(": "))
                return
            except OSError as error:
                yield self._alone(name, _told(error))
                return
            seen = [file for file in listing.files if not class_folders.is_hidden(file.name)]
            refused = [
                one
                for one in listing.skipped
                if one.reason is SkipReason.UNSAFE_NAME or not class_folders.is_hidden(one.name)
            ]
            if not seen and not refused:
                yield self._alone(name, "no files in it")
            self._expect(len(seen) + len(refused))
            for one in refused:
                yield NamedImage(f"{name.rstrip('/')}/{one.name}", one.reason.value)
            for file in seen:
                yield NamedImage(f"{name.rstrip('/')}/{file.name}", _content(path, file))

    def _from_url(self, url: str) -> Iterator[NamedImage]:
        if self._client is None:
            self._client = self._stack.enter_context(Client(self._limits))
        with tempfile.NamedTemporaryFile() as file:
            try:
                self._client.retry(partial(self._download, self._client, url, file))
            except FetchError as failure:
                yield self._alone(url, failure.reason.value)
            else:
                yield from self._from_file(Path(file.name), url)

    def _download(self, client: Client, url: str, file: IO[bytes]) -> None:
        file.seek(0)
        file.truncate()
        with client.open(url) as answer:
            self._copy(url, answer.blocks(self._limits.max_gigabytes * 1e9), file)

    def _copy(self, name: str, blocks: Iterable[bytes], file: IO[bytes]) -> None:
        """Write `blocks` to `file`; raise Failure where that is too much for what they hold."""
        start = b""
        for block in blocks:
            file.write(block)
            start = (start + block)[:START] if len(start) < START else start
            limit = (
                self._limits.max_gigabytes * 1e9
                if ARCHIVE.match(start)
                else self._limits.max_file_megabytes * 1e6
            )
            if file.tell() > limit:
                raise FetchError(SkipReason.TOO_LARGE, f"{name} is larger than {limit:.0f} bytes")
        file.flush()

    def _from_stdin(self) -> Iterator[NamedImage]:
        """An image, an archive, or names: one a line, or each ended by a zero byte."""
        start = self._stdin.read(START)
        binary = not start or CONTROL.search(start)
        if binary and ARCHIVE.match(start):
            with tempfile.NamedTemporaryFile() as file:
                try:
                    self._copy(STDIN, _blocks(start, self._stdin), file)
                except FetchError as failure:
                    yield self._alone(STDIN, failure.reason.value)
                else:
                    yield from self._from_file(Path(file.name), STDIN)
        elif binary and (looks_like_image(start) or not start):
            yield self._alone(STDIN, self._within(self._stdin, start))
        else:
            for line in _lines(start, self._stdin):
                yield from self._of(os.fsdecode(line))


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return bool(ARCHIVE.match(file.read(START)))


def _told(error: OSError | ValueError) -> str:
    said = error.strerror if isinstance(error, OSError) else "no name of a file"
    return said or type(error).__name__


def _content(path: Path, file: SourceFile) -> bytes | str:
    try:
        return files.read_file(path, file)
    except PipelineError:
        return "damaged"
    except OSError as error:
        return _told(error)


def _blocks(start: bytes, file: BinaryIO) -> Iterator[bytes]:
    block = start
    while block:
        yield block
        block = file.read(BLOCK)


def _lines(start: bytes, file: BinaryIO) -> Iterator[bytes]:
    """What lies between line ends, or between zero bytes where there are any at the beginning."""
    separator, rest = (b"\0" if b"\0" in start else b"\n"), b""
    for block in _blocks(start, file):
        *whole, rest = (rest + block).split(separator)
        yield from (line.rstrip(b"\r")[:MAX_LINE_BYTES] for line in whole if line.strip())
        rest = rest[:MAX_LINE_BYTES]  # longer than any name, which will be said
    if rest.strip():
        yield rest.rstrip(b"\r")
