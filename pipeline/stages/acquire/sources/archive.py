"""List the members of a zip or tar without unpacking it to disk."""

import errno
import gzip
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.layouts.file_names import PACKED_SUFFIXES
from pipeline.stages.acquire.layouts.unread_tables import describe_unread_file
from pipeline.stages.acquire.raw_image import SkippedItem, SkipReason
from pipeline.stages.acquire.sources.column_zip import ColumnZipFile, ZipNameError
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
MAX_HEADER_BYTES = 2**20  # of a tar member other than a file: long names, extended headers
MAX_PADDING_BYTES = 16 * 2**20  # after the end of a tar; more than any tape's record
BLOCK = 512  # bytes; a tar ends with two blocks of zeros

Archive = ColumnZipFile | tarfile.TarFile


def open_archive(path: Path, encoding: str | None = None) -> Archive:
    """Open a zip or tar by its content, whatever its name.

    Args:
        encoding: Of the names in a zip, if some are neither marked as UTF-8 nor in UTF-8.

    Raises:
        PipelineError: it is neither, or damaged, or such a name is in another encoding.
    """
    if problem := describe_unread_file(path):  # a spreadsheet may be a zip
        raise PipelineError(problem)
    try:
        if zipfile.is_zipfile(path):
            return _open_zip(path, encoding)
        return tarfile.open(path, tarinfo=_CheckedTarInfo)
    except ZipNameError as error:
        raise PipelineError(f"{path}: {error}") from error
    except DAMAGE as error:
        advice = ""
        if path.name.lower().endswith(PACKED_SUFFIXES):
            advice = ": unpack it, and give the folder"
        raise PipelineError(
            f"{path} is neither a folder nor an intact zip or tar{advice}"
        ) from error


def _open_zip(path: Path, encoding: str | None) -> ColumnZipFile:
    try:
        return ColumnZipFile(path)
    except ZipNameError:
        if encoding is None:
            raise
        return ColumnZipFile(path, encoding)


def list_members(archive: Archive) -> Iterator[SourceFile | SkippedItem]:
    """Yield the regular files of an archive: a zip's by name, a tar's in its own order."""
    if isinstance(archive, ColumnZipFile):
        return archive.list_files()
    return _list_tar(archive)


def is_damage(error: OSError) -> bool:
    """Whether an OSError means a damaged archive: bz2's has no errno, a bad offset is EINVAL."""
    return error.errno in {None, errno.EINVAL}


def _list_tar(archive: tarfile.TarFile) -> Iterator[SourceFile | SkippedItem]:
    # Not sorted: going back in a compressed tar means unpacking it from the start.
    read = partial(_read_tar_member, archive)
    for member in archive:
        archive.members.clear()  # type: ignore[attr-defined] # tarfile would keep them all
        if member.isreg():
            yield SourceFile(to_text(member.name), member.size, _pack_member(member), read)
        elif not member.isdir():
            yield SkippedItem(to_text(member.name), SkipReason.NOT_A_FILE)
    _check_end(archive)


def _pack_member(member: tarfile.TarInfo) -> bytes:
    """Where the bytes of a member are: offset and size, and those of the parts of a sparse file."""
    sparse: list[tuple[int, int]] | None = member.sparse  # type: ignore[assignment]
    parts = [number for part in sparse or () for number in part]
    is_sparse = sparse is not None
    return struct.pack(f"<qq?{len(parts)}q", member.offset_data, member.size, is_sparse, *parts)


def _read_tar_member(archive: tarfile.TarFile, location: bytes) -> bytes:
    member = tarfile.TarInfo()
    count = (len(location) - struct.calcsize("<qq?")) // 8
    offset, size, is_sparse, *parts = struct.unpack(f"<qq?{count}q", location)
    member.offset_data, member.size = offset, size
    if is_sparse:
        pairs = list(zip(parts[::2], parts[1::2], strict=True))
        member.sparse = pairs  # type: ignore[assignment]
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
