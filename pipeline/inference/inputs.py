"""Read images from files, folders, patterns, archives, URLs and standard input."""

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
from typing import IO, TYPE_CHECKING, BinaryIO, Self

from pipeline.core.errors import OF_MACHINE, PipelineError
from pipeline.images.format_detection import looks_like_image
from pipeline.inference.predict import NamedImage
from pipeline.params import AcquireParams
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources import class_folders, files
from pipeline.stages.acquire.sources.listing import SourceFile, to_text
from pipeline.stages.acquire.web.fetch_error import FetchError

if TYPE_CHECKING:
    from pipeline.stages.acquire.web.client import Client

STDIN = "-"
URL = re.compile(r"https?://", re.IGNORECASE)
PATTERN = re.compile(r"[*?[]")
# First bytes of zip, gzip, bzip2, xz and tar.
ARCHIVE = re.compile(
    rb"PK\x03\x04|PK\x05\x06|\x1f\x8b|BZh[1-9]1AY&SY|\xfd7zXZ\0|.{257}ustar", re.DOTALL
)
CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")  # not in a list of names
START_BYTES = 512  # enough to recognise a format
MAX_LINE_BYTES = 2**16  # of a name
BLOCK_BYTES = 2**20
LIMITS = AcquireParams(
    workers=1,
    per_host_per_second=None,
    max_missing_fraction=0,
    allow_private=False,
    max_gigabytes=20,
    max_file_megabytes=100,
    respect_robots=False,  # the user names each URL
)


class ImageInputs:
    """Yields images one at a time; for an input that cannot be read, its name and the reason."""

    def __init__(
        self,
        stdin: BinaryIO,
        params: AcquireParams = LIMITS,
        expect: Callable[[int], object] = lambda _: None,
    ) -> None:
        """`expect` is called with the number of further images as soon as it is known."""
        self._limits = params
        self._stdin = stdin
        self._expect = expect
        self._client: Client | None = None  # imported with requests, for the first URL
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
        """The images of `names`; `-` is standard input."""
        for name in names:
            yield from self._from_stdin() if name == STDIN else self._of(name)

    def _of(self, name: str) -> Iterator[NamedImage]:
        """The images of a name on the command line or in a list."""
        text = to_text(name)
        if URL.match(name):
            yield from self._from_url(text)
        elif os.path.isdir(name):  # noqa: PTH112 # it may be no path at all, and too long for one
            yield from self._inside(Path(name), text)
        elif os.path.lexists(name) or not PATTERN.search(name):
            yield from self._from_file(Path(name), text)
        elif paths := sorted(glob.glob(name, recursive=True)):  # noqa: PTH207 # also absolute ones
            for path in paths:
                yield from self._of(path)
        else:
            yield self._single(text, "no file matches this pattern")

    def _single(self, name: str, content: bytes | str) -> NamedImage:
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
            content = _error_text(error)
        yield self._single(name, content)

    def _within(self, file: BinaryIO, start: bytes = b"") -> bytes | str:
        """Read at most the allowed size, for the file may be endless."""
        max_bytes = int(self._limits.max_file_megabytes * 1e6)
        content = start + file.read(max_bytes + 1 - len(start))
        return content if len(content) <= max_bytes else SkipReason.TOO_LARGE.value

    def _inside(self, path: Path, name: str) -> Iterator[NamedImage]:
        """The files of a folder or archive, without hidden ones."""
        limits = self._limits
        if path.is_dir():  # nothing is unpacked, so any size is allowed
            limits = limits.model_copy(update={"max_gigabytes": math.inf})
        with ExitStack() as stack:
            try:
                # A name says nothing here, so that any reading of it does.
                listing = stack.enter_context(
                    files.open_listing(path, limits, strict=False, encoding="cp437")
                )
            except PipelineError as error:
                yield self._single(name, str(error).removeprefix(str(path)).strip(": "))
                return
            except OSError as error:
                yield self._single(name, _error_text(error))
                return
            visible = [file for file in listing.files if not class_folders.is_hidden(file.name)]
            refused = [
                file
                for file in listing.skipped
                if file.reason is SkipReason.UNSAFE_NAME or not class_folders.is_hidden(file.name)
            ]
            if not visible and not refused:
                yield self._single(name, "no files in it")
            self._expect(len(visible) + len(refused))
            for skipped_file in refused:
                path_in_archive = f"{name.rstrip('/')}/{skipped_file.name}"
                yield NamedImage(path_in_archive, skipped_file.reason.value)
            for file in visible:
                yield NamedImage(f"{name.rstrip('/')}/{file.name}", _content(path, file))

    def _from_url(self, url: str) -> Iterator[NamedImage]:
        if self._client is None:
            from pipeline.stages.acquire.web.client import Client

            self._client = self._stack.enter_context(Client(self._limits))
        with tempfile.NamedTemporaryFile() as file:
            try:
                self._client.retry(partial(self._download, self._client, url, file))
            except FetchError as failure:
                yield self._single(url, failure.reason.value)
            else:
                yield from self._from_file(Path(file.name), url)

    def _download(self, client: "Client", url: str, file: IO[bytes]) -> None:
        file.seek(0)
        file.truncate()
        with client.open(url) as answer:
            self._copy(url, answer.blocks(self._limits.max_gigabytes * 1e9), file)

    def _copy(self, name: str, blocks: Iterable[bytes], file: IO[bytes]) -> None:
        """Write `blocks` to `file`; raise FetchError if an image or archive is too large."""
        start = b""
        for block in blocks:
            file.write(block)
            start = (start + block)[:START_BYTES] if len(start) < START_BYTES else start
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
        start = self._stdin.read(START_BYTES)
        binary = not start or CONTROL.search(start)
        if binary and ARCHIVE.match(start):
            with tempfile.NamedTemporaryFile() as file:
                try:
                    self._copy(STDIN, _blocks(start, self._stdin), file)
                except FetchError as failure:
                    yield self._single(STDIN, failure.reason.value)
                else:
                    yield from self._from_file(Path(file.name), STDIN)
        elif binary and (looks_like_image(start) or not start):
            yield self._single(STDIN, self._within(self._stdin, start))
        else:
            for line in _lines(start, self._stdin):
                yield from self._of(os.fsdecode(line))


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return bool(ARCHIVE.match(file.read(START_BYTES)))


def _error_text(error: OSError | ValueError) -> str:
    """For the row of an input; an error of the machine is raised again."""
    if isinstance(error, OSError) and error.errno in OF_MACHINE:
        raise error
    text = error.strerror if isinstance(error, OSError) else "not a file name"
    return text or type(error).__name__


def _content(path: Path, file: SourceFile) -> bytes | str:
    try:
        return files.read_file(path, file)
    except PipelineError:
        return "damaged"
    except OSError as error:
        return _error_text(error)


def _blocks(start: bytes, file: BinaryIO) -> Iterator[bytes]:
    block = start
    while block:
        yield block
        block = file.read(BLOCK_BYTES)


def _lines(start: bytes, file: BinaryIO) -> Iterator[bytes]:
    """Split at line ends, or at zero bytes if the beginning has any."""
    separator, rest = (b"\0" if b"\0" in start else b"\n"), b""
    for block in _blocks(start, file):
        *whole, rest = (rest + block).split(separator)
        yield from (line.rstrip(b"\r")[:MAX_LINE_BYTES] for line in whole if line.strip())
        rest = rest[:MAX_LINE_BYTES]  # too long for a name; reported as such
    if rest.strip():
        yield rest.rstrip(b"\r")
