"""Class folders on disk, in a zip or in a tar, read straight into shards."""

import errno
import gzip
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from pipeline.core.errors import PipelineError, counted
from pipeline.core.progress import bar
from pipeline.params import AcquireParams
from pipeline.stages.acquire.dataset_toml import ArchiveDataset, ExternalDataset
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem, SkipReason
from pipeline.stages.acquire.sources import cifar10, class_folders

# A member that is cut off, or whose checksum or compression is wrong, or that is encrypted.
BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    EOFError,
    RuntimeError,
    ValueError,
)
RATIO = 200  # photographs are packed already; deflate reaches 1,000 on zeros
SLACK = 64e6  # bytes, for small archives of drawings that pack well
ENCRYPTED = 0x1  # flag of a zip's member
HEADER = 2**20  # bytes that a member other than a file may have: names, extended headers
PADDING = 16 * 2**20  # bytes; more than any tape's record
BLOCK = 512  # bytes; a tar ends with two blocks of zeros


@dataclass(frozen=True)
class File:
    name: str
    """Relative to the folder or archive, with forward slashes."""
    size: int
    """Bytes, unpacked."""
    read: Callable[[], bytes]


def read_images(
    path: Path, dataset: ExternalDataset, params: AcquireParams
) -> Iterator[RawImage | SkippedItem]:
    """The files of all class folders below or inside `path`, in the listing's order.

    What is listed and cannot be an image of a class comes first, with the reason.

    Raises:
        PipelineError: the path does not exist, is no folder or archive, is too large unpacked, is
            damaged, or has no class folders.
    """
    with open_listing(path, params) as (listing, skipped):
        chosen, places, outside = _chosen(path, listing, dataset)
        yield from (*skipped, *outside)
        if places is None:
            yield from _records(path, chosen, dataset)
        else:
            yield from _photographs(path, chosen, places, dataset)


@contextmanager
def open_listing(
    path: Path, params: AcquireParams, strict: bool = True
) -> Iterator[tuple[list[File], list[SkippedItem]]]:
    """What can be read of a folder, zip or tar while it is open, and what cannot, and why.

    Args:
        strict: Whether a folder below that may not be read is an error of the operating system.

    Raises:
        PipelineError: the path does not exist, is none of the three, is too large unpacked, or is
            damaged.
    """
    with open_source(path, strict) as members:
        try:
            found = _checked(path, members, params)
        except PipelineError as error:
            raise PipelineError(f"{path}: {error}") from error
        except BROKEN as error:
            raise PipelineError(f"{path} is damaged ({error}): get it again") from error
        except OSError as error:
            if not _is_damage(error):
                raise
            raise PipelineError(f"{path} is damaged ({error}): get it again") from error
        yield found


def _chosen(
    path: Path, listing: Sequence[File], dataset: ExternalDataset
) -> tuple[list[File], dict[str, class_folders.FolderLabel] | None, list[SkippedItem]]:
    """The files of class folders and their places, or batches of records without any; the rest."""
    places = None
    records = isinstance(dataset, ArchiveDataset) and dataset.records is not None
    batches = [file for file in listing if records and cifar10.is_batch(file.name)]
    if not batches:  # a copy with class folders, where records are described
        try:
            places = class_folders.label_paths([file.name for file in listing], dataset.splits)
        except PipelineError as error:
            raise PipelineError(f"{path}: {error}") from error
    wanted = {file.name for file in batches} if places is None else places.keys()
    rest = [file.name for file in listing if file.name not in wanted]
    outside = [SkippedItem(name, SkipReason.OUTSIDE_CLASS_FOLDERS) for name in rest]
    return [file for file in listing if file.name in wanted], places, outside


def _photographs(
    path: Path,
    files: list[File],
    places: dict[str, class_folders.FolderLabel],
    dataset: ExternalDataset,
) -> Iterator[RawImage]:
    with bar(f"acquire {path.name}", total=len(files)) as shown:
        for file in files:
            place = places[file.name]
            data = read_file(path, file)
            yield RawImage(file.name, place.label, data, place.split, dataset.licence)
            shown.update()


def _records(path: Path, batches: list[File], dataset: ExternalDataset) -> Iterator[RawImage]:
    with bar(f"acquire {path.name}", total=None) as shown:
        for file in batches:
            for image in cifar10.read_records(file.name, read_file(path, file), dataset.licence):
                yield image
                shown.update()


def _checked(
    path: Path, members: Iterable[File | SkippedItem], params: AcquireParams
) -> tuple[list[File], list[SkippedItem]]:
    """The listing without what cannot be a photograph, and that."""
    listing: list[File] = []
    skipped: list[SkippedItem] = []
    total = 0
    most = params.max_gigabytes * 1e9
    bomb = SLACK + RATIO * path.stat().st_size if path.is_file() else most
    for member in members:
        if isinstance(member, SkippedItem):
            skipped.append(member)
            continue
        total += member.size
        if total > most:
            raise PipelineError(
                f"holds more than acquire.max_gigabytes={params.max_gigabytes:g} unpacked"
            )
        if total > bomb:
            raise PipelineError(
                f"unpacks to more than {RATIO} times its size: that is no archive of photographs"
            )
        if is_unsafe(member.name) or not member.name:
            skipped.append(SkippedItem(member.name, SkipReason.UNSAFE_NAME))
        elif member.size > params.max_file_megabytes * 1e6:
            skipped.append(SkippedItem(member.name, SkipReason.TOO_LARGE))
        else:
            listing.append(member)
    if skipped and not listing:
        said = counted(Counter(one.reason.value for one in skipped))
        raise PipelineError(f"holds nothing that can be read ({said})")
    return listing, skipped


def is_unsafe(name: str) -> bool:
    """Whether a name is absolute or leads out. (Nothing is unpacked to a name, whatever it is.)"""
    parts = PurePosixPath(name).parts
    return ".." in parts or name.startswith("/") or (name[1:2] == ":" and name[:1].isalpha())


def read_file(path: Path, file: File) -> bytes:
    """The bytes of a file that `open_listing` has of `path`.

    Raises:
        PipelineError: it is damaged.
    """
    try:
        return file.read()
    except BROKEN as error:
        raise _damaged(path, file, error) from error
    except OSError as error:
        if not _is_damage(error):
            raise
        raise _damaged(path, file, error) from error


def _is_damage(error: OSError) -> bool:
    """Whether it is the archive's fault: bz2's own errors have no number, bad offsets have this."""
    return error.errno in {None, errno.EINVAL}


def _damaged(path: Path, file: File, error: Exception) -> PipelineError:
    return PipelineError(f"{path}: {file.name} is damaged ({error}): get it again")


@contextmanager
def open_source(path: Path, strict: bool = True) -> Iterator[Iterator[File | SkippedItem]]:
    """The regular files of a folder, zip or tar, and what stands beside them there.

    Raises:
        PipelineError: the path does not exist, or is none of the three.
    """
    if path.is_dir():
        yield _folder_files(path, strict)
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
        return tarfile.open(path, tarinfo=_Member)
    except BROKEN as error:
        raise PipelineError(f"{path} is neither a folder nor a sound zip or tar") from error


def _folder_files(folder: Path, strict: bool) -> Iterator[File | SkippedItem]:
    """Links are followed, for many keep their images so, but never into a folder twice."""
    seen: set[tuple[int, int]] = set()
    refused: list[OSError] = []
    onerror = _raise if strict else refused.append
    for directory, subfolders, names in os.walk(folder, onerror=onerror, followlinks=True):
        here = Path(directory).stat()
        if (here.st_dev, here.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        subfolders.sort()
        for each in sorted(names):
            path = Path(directory, each)
            name = to_text(path.relative_to(folder))
            try:
                facts = path.stat()
            except OSError as error:
                if error.errno not in {errno.ENOENT, errno.ELOOP}:
                    raise
                # A link that leads nowhere.
                yield SkippedItem(name, SkipReason.NOT_A_FILE)
                continue
            if stat.S_ISREG(facts.st_mode):
                yield File(name, facts.st_size, path.read_bytes)
            else:  # reading a pipe or a device might never end
                yield SkippedItem(name, SkipReason.NOT_A_FILE)
    for refusal in refused:
        yield SkippedItem(
            to_text(Path(refusal.filename).relative_to(folder)), SkipReason.UNREADABLE
        )


def _raise(error: OSError) -> None:
    raise error


def to_text(path: os.PathLike[str] | str) -> str:
    """A path as text with forward slashes; bytes that are no UTF-8 are shown as such."""
    return os.fsencode(path).decode("utf-8", "replace").replace(os.sep, "/")


def _zip_files(archive: zipfile.ZipFile) -> Iterator[File | SkippedItem]:
    for info in sorted(archive.infolist(), key=lambda info: info.filename):
        name = info.filename.replace("\\", "/")  # as some Windows programs write it
        if name.endswith("/"):
            continue
        if stat.S_ISLNK(info.external_attr >> 16):
            yield SkippedItem(name, SkipReason.NOT_A_FILE)
        elif info.flag_bits & ENCRYPTED:
            yield SkippedItem(name, SkipReason.ENCRYPTED)
        else:
            yield File(name, info.file_size, partial(_read_zipped, archive, info))


def _read_zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as file:
        return file.read(
            info.file_size
        )  # read_file() alone would unpack all, whatever the size says


def _tar_files(archive: tarfile.TarFile) -> Iterator[File | SkippedItem]:
    # In the archive's own order: going back in a compressed tar means starting over.
    for member in archive:
        if member.isreg():
            yield File(to_text(member.name), member.size, partial(_read_member, archive, member))
        elif not member.isdir():
            yield SkippedItem(to_text(member.name), SkipReason.NOT_A_FILE)
    _check_end(archive)


class _Member(tarfile.TarInfo):
    """A member whose header is not believed."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        # tarfile goes back to where a negative size leads, and holds other headers in memory.
        file = self.type in (*tarfile.REGULAR_TYPES, tarfile.GNUTYPE_SPARSE)
        if self.size < 0 or (not file and self.size > HEADER):
            raise tarfile.ReadError(f"{self.name} has {self.size} bytes")
        read: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return read


def _check_end(archive: tarfile.TarFile) -> None:
    """Raise ReadError unless the listing ended where the tar does: tarfile stops at any damage."""
    file = archive.fileobj
    assert file is not None
    file.seek(archive.offset)
    if file.read(BLOCK) != bytes(BLOCK):
        raise tarfile.ReadError(f"cut off, or damaged at byte {archive.offset}")
    padding = 0
    while block := file.read(HEADER):  # to the end, where a compressed tar has its checksum
        padding += len(block)
        if padding > PADDING or any(block):
            raise tarfile.ReadError(f"more than padding behind its end at byte {archive.offset}")


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None  # a regular file
    return file.read()
