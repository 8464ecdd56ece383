"""List the members of a zip or tar without unpacking it to disk."""

import errno
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.raw_image import SkippedItem, SkipReason
from pipeline.stages.acquire.sources.listing import SourceFile, to_text

# Raised for a member that is truncated, encrypted, or has a wrong checksum or compression.
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    EOFError,
    RuntimeError,
    ValueError,
)
ENCRYPTED, UTF8 = 0x1, 0x800  # flags of a zip member
UNICODE_PATH = 0x7075  # an extra field of a zip member
MAX_HEADER_BYTES = 2**20  # of a tar member other than a file: long names, extended headers
MAX_PADDING_BYTES = 16 * 2**20  # after the end of a tar; more than any tape's record
BLOCK = 512  # bytes; a tar ends with two blocks of zeros

Archive = zipfile.ZipFile | tarfile.TarFile


def open_archive(path: Path) -> Archive:
    """Open a zip or tar by its content, whatever its name.

    Raises:
        PipelineError: it is neither, or damaged.
    """
    try:
        if zipfile.is_zipfile(path):
            return zipfile.ZipFile(path)
        return tarfile.open(path, tarinfo=_CheckedTarInfo)
    except DAMAGE as error:
        raise PipelineError(f"{path} is neither a folder nor an intact zip or tar") from error


def list_members(archive: Archive) -> Iterator[SourceFile | SkippedItem]:
    """Yield the regular files of an archive: a zip's by name, a tar's in its own order."""
    if isinstance(archive, zipfile.ZipFile):
        return _list_zip(archive)
    return _list_tar(archive)


def is_damage(error: OSError) -> bool:
    """Whether an OSError means a damaged archive: bz2's has no errno, a bad offset is EINVAL."""
    return error.errno in {None, errno.EINVAL}


def _list_zip(archive: zipfile.ZipFile) -> Iterator[SourceFile | SkippedItem]:
    for info in sorted(archive.infolist(), key=_zip_name):
        name = _zip_name(info).replace("\\", "/")  # some Windows programs write backslashes
        if name.endswith("/"):
            continue
        if stat.S_ISLNK(info.external_attr >> 16):
            yield SkippedItem(name, SkipReason.NOT_A_FILE)
        elif info.flag_bits & ENCRYPTED:
            yield SkippedItem(name, SkipReason.ENCRYPTED)
        else:
            yield SourceFile(name, info.file_size, partial(_read_zip_member, archive, info))


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name of a member; without the flag for UTF-8, zipfile takes any bytes for code page 437.

    macOS and old versions of Info-ZIP write UTF-8 without the flag, or beside it in an extra field.
    """
    if info.flag_bits & UTF8 or info.filename.isascii():
        return info.filename
    try:
        return _unicode_path(info) or info.filename.encode("cp437").decode("utf-8")
    except UnicodeDecodeError:
        return info.filename


def _unicode_path(info: zipfile.ZipInfo) -> str | None:
    """The name in Info-ZIP's extra field (APPNOTE.TXT, 4.6.9), unless it is of another name."""
    extra, header = info.extra, zlib.crc32(info.orig_filename.encode("cp437"))
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        body, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == UNICODE_PATH and body[:5] == struct.pack("<BI", 1, header):
            return body[5:].decode("utf-8")
    return None


def _read_zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as file:
        return file.read(info.file_size)  # read() would unpack beyond the stated size


def _list_tar(archive: tarfile.TarFile) -> Iterator[SourceFile | SkippedItem]:
    # Not sorted: going back in a compressed tar means unpacking it from the start.
    for member in archive:
        if member.isreg():
            read = partial(_read_tar_member, archive, member)
            yield SourceFile(to_text(member.name), member.size, read)
        elif not member.isdir():
            yield SkippedItem(to_text(member.name), SkipReason.NOT_A_FILE)
    _check_end(archive)


def _read_tar_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None  # a regular file
    return file.read()


class _CheckedTarInfo(tarfile.TarInfo):
    """Refuses sizes that tarfile trusts: negative ones, and headers too large for memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        # A negative size sends tarfile back to an earlier header, for ever (CVE-2025-8194).
        is_file = self.type in (*tarfile.REGULAR_TYPES, tarfile.GNUTYPE_SPARSE)
        if self.size < 0 or (not is_file and self.size > MAX_HEADER_BYTES):
            raise tarfile.ReadError(f"{self.name} has {self.size} bytes")
        info: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return info


def _check_end(archive: tarfile.TarFile) -> None:
    """Raise ReadError if the listing ended before the tar does: tarfile stops at damage."""
    file = archive.fileobj
    assert file is not None
    file.seek(archive.offset)
    if file.read(BLOCK) != bytes(BLOCK):
        raise tarfile.ReadError(f"truncated, or damaged at byte {archive.offset}")
    padding = 0
    # To the end of the file, because a compressed tar has its checksum there.
    while block := file.read(MAX_HEADER_BYTES):
        padding += len(block)
        if padding > MAX_PADDING_BYTES or any(block):
            raise tarfile.ReadError(f"more than padding after its end at byte {archive.offset}")
