"""A zip with its members in Arrow columns: zipfile's own list takes 600 bytes per member."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import PipelineError
from pipeline.core.shards import array
from pipeline.stages.acquire.raw_image import SkippedItem, SkipReason
from pipeline.stages.acquire.sources.listing import RowTable, SourceFile, check_count, iterate

ENCRYPTED, UTF8 = 0x1, 0x800  # flags of a zip member
# Code pages of Windows in Korea, Japan, China and the West; the last has a reading of any bytes.
GUESSES = ("cp949", "cp932", "gbk", "cp437")
UNICODE_PATH = 0x7075  # an extra field of a zip member
# header_offset, end_offset, compress_size, file_size, CRC, compress_type, flag_bits
LOCATION = struct.Struct("<qqQQIHH")


class _Members:
    """Takes the place of `ZipFile.filelist`, which zipfile fills when it opens a file."""

    _SCHEMA = pa.schema(
        {
            "name": pa.large_string(),
            "original_name": pa.large_string(),
            "mode": pa.int32(),
            "offset": pa.int64(),
            "compress_size": pa.uint64(),
            "size": pa.uint64(),
            "crc": pa.uint32(),
            "compress_type": pa.uint16(),
            "flags": pa.uint16(),
        }
    )

    def __init__(self, path: Path, encoding: str | None) -> None:
        self._rows = RowTable(self._SCHEMA)
        self._path = path
        self._encoding = encoding
        self._count = 0

    def append(self, info: zipfile.ZipInfo) -> None:
        self._count += 1
        check_count(self._count, self._path)
        self._rows.append(
            zip_name(info, self._encoding),
            info.orig_filename,
            info.external_attr >> 16,
            info.header_offset,
            info.compress_size,
            info.file_size,
            info.CRC,
            info.compress_type,
            info.flag_bits,
        )

    def __iter__(self) -> Iterator[zipfile.ZipInfo]:
        """None: zipfile only looks for each member's end, which `table` has."""
        return iter(())

    def table(self, end: int) -> pa.Table:
        """All members by name, with the offset where the next one starts.

        Args:
            end: Offset of the central directory.
        """
        table = self._rows.table()
        offsets = table.column("offset").to_numpy()
        order = np.argsort(-offsets, kind="stable")
        ends = np.full(len(offsets), end, np.int64)
        ends[order[1:]] = offsets[order[:-1]]
        table = table.append_column("end", array(ends))
        return table.take(pc.sort_indices(table.column("name")))


class ColumnZipFile(zipfile.ZipFile):
    """A ZipFile to list and read from: the methods that search its members find none.

    Raises:
        ZipNameError: a name is in no encoding that is known.
    """

    start_dir: int
    """Offset of the central directory."""

    def __init__(self, path: Path, encoding: str | None = None) -> None:
        """Open a zip.

        Args:
            encoding: Of the names without the flag for UTF-8; by default UTF-8.
        """
        self.encoding = encoding
        self._path = path
        self._members = _Members(path, encoding)
        super().__init__(path)

    @property
    def filelist(self) -> Any:
        return self._members

    @filelist.setter
    def filelist(self, _: Any) -> None:  # zipfile sets an empty list
        self._members = _Members(self._path, self.encoding)

    @property
    def NameToInfo(self) -> Any:  # noqa: N802
        return {}

    @NameToInfo.setter
    def NameToInfo(self, _: Any) -> None:  # noqa: N802
        pass

    def list_files(self) -> Iterator[SourceFile | SkippedItem]:
        """Yield the regular files, by name."""
        for row in iterate(self._members.table(self.start_dir)):
            name, original, mode, offset, compressed, size, crc, kind, flags, end = row
            # Some Windows programs write backslashes.
            file = SourceFile(
                name.replace("\\", "/"),
                size,
                LOCATION.pack(offset, end, compressed, size, crc, kind, flags)
                + original.encode("utf-8", "surrogatepass"),
                self._read_file,
            )
            if file.name.endswith("/"):
                continue
            if stat.S_ISLNK(mode):
                yield SkippedItem(file.name, SkipReason.NOT_A_FILE)
            elif flags & ENCRYPTED:
                yield SkippedItem(file.name, SkipReason.ENCRYPTED)
            else:
                yield file

    def _read_file(self, location: bytes) -> bytes:
        name = location[LOCATION.size :].decode("utf-8", "surrogatepass")
        info = zipfile.ZipInfo(name)
        numbers = LOCATION.unpack(location[: LOCATION.size])
        info.header_offset, end, info.compress_size, info.file_size = numbers[:4]
        info.CRC, info.compress_type, info.flag_bits = numbers[4:]
        info.orig_filename = name
        if hasattr(info, "_end_offset"):  # against overlapping members (CVE-2024-0450)
            info._end_offset = end
        with self.open(info) as file:
            return file.read(info.file_size)  # read() would unpack beyond the stated size


class ZipNameError(PipelineError):
    """The name of a member is in an encoding that has to be given."""


def zip_name(info: zipfile.ZipInfo, encoding: str | None = None) -> str:
    """The name of a member; without the flag for UTF-8, zipfile takes any bytes for code page 437.

    macOS and old versions of Info-ZIP write UTF-8 without the flag, or beside it in an extra field;
    Windows writes the code page of its language.

    Args:
        encoding: Of names without flag and extra field.

    Raises:
        ZipNameError: the name is not in this encoding; without one, it is not UTF-8.
    """
    if info.flag_bits & UTF8 or info.filename.isascii():
        return info.filename
    data = info.filename.encode("cp437")
    try:
        return _unicode_path(info) or data.decode(encoding or "utf-8")
    except UnicodeError as error:
        raise ZipNameError(_name_problem(data, encoding)) from error


def _name_problem(data: bytes, encoding: str | None) -> str:
    escaped = data.decode("ascii", "backslashreplace")
    readings = {name: _decode(data, name) for name in GUESSES if name != encoding}
    examples = [f"encoding = '{name}' for {text}" for name, text in readings.items() if text]
    which = f"not in {encoding}" if encoding else "neither in UTF-8 nor marked with an encoding"
    return f"the name {escaped} in it is {which}: say which it is, such as {', '.join(examples)}"


def _decode(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _unicode_path(info: zipfile.ZipInfo) -> str | None:
    """The name in Info-ZIP's extra field (APPNOTE.TXT, 4.6.9), unless it is of another name."""
    extra, header = info.extra, zlib.crc32(info.orig_filename.encode("cp437"))
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        body, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == UNICODE_PATH and body[:5] == struct.pack("<BI", 1, header):
            return body[5:].decode("utf-8")
    return None
