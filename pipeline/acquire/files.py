"""Class folders on disk, in a zip or in a tar, read straight into shards."""

import gzip
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.acquire import layout
from pipeline.acquire.dataset import Archive, Folder
from pipeline.acquire.raw import RawImage
from pipeline.errors import PipelineError
from pipeline.params import Acquire
from pipeline.progress import bar

# A member that is cut off, or whose checksum or compression is wrong, or that is encrypted.
BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, gzip.BadGzipFile,
          EOFError, RuntimeError, ValueError)  # fmt: skip
BLOCK = 512  # bytes; a tar ends with two blocks of zeros


@dataclass(frozen=True)
class File:
    name: str
    """Relative to the folder or archive, with forward slashes."""
    size: int
    """Bytes, unpacked."""
    read: Callable[[], bytes]


def images(path: Path, dataset: Folder | Archive, limits: Acquire) -> Iterator[RawImage]:
    """The files of all class folders below or inside `path`, in the listing's order.

    Raises:
        PipelineError: the path does not exist, is no folder or archive, is too large unpacked, is
            damaged, or has no class folders.
    """
    with opened(path) as files:
        try:
            listing = _checked(files, limits)
            where = layout.places([file.name for file in listing], dataset.splits)
        except PipelineError as error:
            raise PipelineError(f"{path}: {error}") from error
        except BROKEN as error:
            raise PipelineError(f"{path} is damaged ({error}): get it again") from error
        chosen = [file for file in listing if file.name in where]
        if len(chosen) < len(listing):
            print(f"acquire: ignored {len(listing) - len(chosen)} files outside class folders")
        with bar(f"acquire {path.name}", total=len(chosen)) as shown:
            for file in chosen:
                place = where[file.name]
                data = _read(path, file)
                yield RawImage(file.name, place.label, data, place.split, dataset.licence)
                shown.update()


def _checked(files: Iterator[File], limits: Acquire) -> list[File]:
    """The listing, without files too large to be photographs, which are counted aloud."""
    listing: list[File] = []
    large: list[File] = []
    total = 0
    for file in files:
        total += file.size
        if total > limits.max_gigabytes * 1e9:
            raise PipelineError(
                f"holds more than acquire.max_gigabytes={limits.max_gigabytes:g} unpacked"
            )
        (large if file.size > limits.max_file_megabytes * 1e6 else listing).append(file)
    if large:
        print(
            f"acquire: left out {len(large)} files past acquire.max_file_megabytes="
            f"{limits.max_file_megabytes:g}, the first {large[0].name}"
        )
    return listing


def _read(path: Path, file: File) -> bytes:
    try:
        return file.read()
    except BROKEN as error:
        raise _damaged(path, file, error) from error
    except OSError as error:
        if error.errno is not None:
            raise  # the disk's fault, not the archive's: bz2 alone raises OSErrors of its own
        raise _damaged(path, file, error) from error


def _damaged(path: Path, file: File, error: Exception) -> PipelineError:
    return PipelineError(f"{path}: {file.name} is damaged ({error}): get it again")


@contextmanager
def opened(path: Path) -> Iterator[Iterator[File]]:
    """The regular files of a folder, zip or tar. Devices are not listed, nor an archive's links.

    Raises:
        PipelineError: the path does not exist, or is none of the three.
    """
    if path.is_dir():
        yield _folder_files(path)
    elif not path.is_file():
        raise PipelineError(f"{path} does not exist: give a folder or archive as dataset.source")
    else:
        with _archive(path) as archive:
            if isinstance(archive, zipfile.ZipFile):
                yield _zip_files(archive)
            else:
                yield _tar_files(archive)


def _archive(path: Path) -> zipfile.ZipFile | tarfile.TarFile:
    try:
        if zipfile.is_zipfile(path):
            return zipfile.ZipFile(path)
        return tarfile.open(path)
    except BROKEN as error:
        raise PipelineError(f"{path} is neither a folder nor a sound zip or tar") from error


def _folder_files(folder: Path) -> Iterator[File]:
    """Links are followed, for many keep their images so, but never into a folder twice."""
    seen: set[tuple[int, int]] = set()
    for directory, subfolders, names in os.walk(folder, onerror=_raise, followlinks=True):
        here = Path(directory).stat()
        if (here.st_dev, here.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        subfolders.sort()
        for name in sorted(names):
            path = Path(directory, name)
            facts = path.stat()
            if stat.S_ISREG(facts.st_mode):  # reading a pipe or a device might never end
                yield File(_text(path.relative_to(folder)), facts.st_size, path.read_bytes)


def _raise(error: OSError) -> None:
    raise error


def _text(path: os.PathLike[str] | str) -> str:
    """A path as text with forward slashes; bytes that are no UTF-8 are shown as such."""
    return os.fsencode(path).decode("utf-8", "replace").replace(os.sep, "/")


def _zip_files(archive: zipfile.ZipFile) -> Iterator[File]:
    for info in sorted(archive.infolist(), key=lambda info: info.filename):
        if not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16):
            yield File(info.filename, info.file_size, partial(archive.read, info))


def _tar_files(archive: tarfile.TarFile) -> Iterator[File]:
    # In the archive's own order: going back in a compressed tar means starting over.
    for member in archive:
        if member.isreg():
            yield File(_text(member.name), member.size, partial(_read_member, archive, member))
    _check_end(archive)


def _check_end(archive: tarfile.TarFile) -> None:
    """Raise ReadError unless the listing ended where the tar does: tarfile stops at any damage."""
    file = archive.fileobj
    assert file is not None
    file.seek(archive.offset)
    if file.read(BLOCK) != bytes(BLOCK):
        raise tarfile.ReadError(f"cut off, or damaged at byte {archive.offset}")
    while file.read(2**20):  # to the end, where a compressed tar has its checksum
        pass


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None  # a regular file
    return file.read()
