"""The files of a folder or archive, listed and read within bounds."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.core.errors import PipelineError, format_counts
from pipeline.params import AcquireParams
from pipeline.stages.acquire.raw_image import SkippedItem, SkipReason
from pipeline.stages.acquire.sources import archive, folder
from pipeline.stages.acquire.sources.class_folders import is_junk
from pipeline.stages.acquire.sources.column_zip import ColumnZipFile
from pipeline.stages.acquire.sources.listing import FileTable, SourceFile, check_count
from pipeline.stages.acquire.sources.stalls import watched, watched_items

# An archive may unpack to MAX_RATIO times its size: photographs are compressed already, and
# deflate reaches 1,000 on zeros.
MAX_RATIO = 200
SLACK_BYTES = 64e6  # beyond that ratio, for small archives of drawings
MAX_EMPTY_FILES = 10_000  # if they are more than half


@dataclass(frozen=True)
class Listing:
    """The files of a folder or archive, and what was left out of it."""

    files: FileTable
    skipped: list[SkippedItem]


@contextmanager
def open_listing(
    path: Path, params: AcquireParams, strict: bool = True, encoding: str | None = None
) -> Iterator[Listing]:
    """List a folder, zip or tar; its files can be read while the context lasts.

    Args:
        strict: Raise OSError for an unreadable subfolder, instead of skipping it.
        encoding: Of the names in a zip, if some are neither marked as UTF-8 nor in UTF-8.

    Raises:
        PipelineError: the path does not exist, is none of the three, is too large unpacked, is
            damaged, or has names in another encoding.
    """
    with watched(path):
        is_folder, is_file = path.is_dir(), path.is_file()
    if is_folder:
        listing = _check_listing(path, folder.list_files(path, strict), params)
        listing.files.folder = path
        yield listing
    elif not is_file:
        raise PipelineError(f"{path} does not exist: give a folder or archive as dataset.source")
    else:
        with archive.open_archive(path, encoding) as container:
            try:
                listing = _check_listing(path, archive.list_members(container), params)
            except archive.DAMAGE as error:
                raise _damage_error(f"{path}", error) from error
            except OSError as error:
                if not archive.is_damage(error):
                    raise
                raise _damage_error(f"{path}", error) from error
            if isinstance(container, ColumnZipFile):
                listing.files.uses_encoding = container.encoding is not None
            yield listing


def read_file(path: Path, file: SourceFile) -> bytes:
    """Read a file of the listing of `path`.

    Raises:
        PipelineError: it is damaged.
    """
    try:
        with watched(path / file.name):
            return file.read()
    except archive.DAMAGE as error:
        raise _damage_error(f"{path}: {file.name}", error) from error
    except OSError as error:
        if not archive.is_damage(error):
            raise
        raise _damage_error(f"{path}: {file.name}", error) from error


def is_unsafe(name: str) -> bool:
    """Whether a name is absolute or leaves the archive. (Nothing is ever written to a name.)"""
    parts = PurePosixPath(name).parts
    return ".." in parts or name.startswith("/") or (name[1:2] == ":" and name[:1].isalpha())


def _check_listing(
    path: Path, members: Iterable[SourceFile | SkippedItem], params: AcquireParams
) -> Listing:
    """Separate the files that can be photographs from those that cannot, without junk."""
    listing = Listing(FileTable(), [])
    total = empty = 0
    for number, member in enumerate(watched_items(members, path), start=1):
        check_count(number, path)
        if isinstance(member, SkippedItem):
            if not is_junk(member.name):
                listing.skipped.append(member)
            continue
        total += member.size
        empty += member.size == 0
        _check_total(path, total, params)
        if is_unsafe(member.name) or not member.name:
            listing.skipped.append(SkippedItem(member.name, SkipReason.UNSAFE_NAME))
        elif is_junk(member.name):
            continue
        elif member.size > params.max_file_megabytes * 1e6 and not _is_parquet(path, member):
            listing.skipped.append(SkippedItem(member.name, SkipReason.TOO_LARGE))
        else:
            listing.files.append(member)
    _check_empty(path, empty, len(listing.files))
    if listing.skipped and not len(listing.files):
        reasons = format_counts(Counter(item.reason.value for item in listing.skipped))
        large = find_large_parquet(path, listing.skipped, params)
        raise PipelineError(large or f"{path}: no file in it can be read ({reasons})")
    return listing


def find_large_parquet(
    path: Path, skipped: Iterable[SkippedItem], params: AcquireParams
) -> str | None:
    """What to do about a Parquet file that is too large to be read in an archive, if there is one.

    On disk its columns are read alone.
    """
    for item in skipped:
        if item.reason is SkipReason.TOO_LARGE and item.name.lower().endswith(".parquet"):
            return (
                f"{path}: {item.name} is past acquire.max_file_megabytes="
                f"{params.max_file_megabytes:g}, which counts for a Parquet file in an archive: "
                "unpack the archive and give the folder"
            )
    return None


def _is_parquet(path: Path, member: SourceFile) -> bool:
    """Whether a file is a Parquet file on disk, which is not read at once."""
    return path.is_dir() and member.name.lower().endswith(".parquet")


def _check_empty(path: Path, empty: int, count: int) -> None:
    if empty > MAX_EMPTY_FILES and empty > count / 2:
        raise PipelineError(
            f"{path}: {empty:,} of {count:,} files are empty: it was copied or packed without "
            "their contents, so get it again"
        )


def _check_total(path: Path, total: int, params: AcquireParams) -> None:
    """Raise if `total` bytes are too many, absolutely or for the size of the archive."""
    if total > params.max_gigabytes * 1e9:
        raise PipelineError(
            f"{path}: larger than acquire.max_gigabytes={params.max_gigabytes:g} unpacked"
        )
    if path.is_file() and total > SLACK_BYTES + MAX_RATIO * path.stat().st_size:
        raise PipelineError(
            f"{path}: unpacks to more than {MAX_RATIO} times its size, which no archive of "
            "photographs does"
        )


def _damage_error(name: str, error: Exception) -> PipelineError:
    return PipelineError(f"{name} is damaged ({error}): get it again")
