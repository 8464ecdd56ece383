"""Images in class folders, on disk or in an archive, and in archives of binary records."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pipeline.core.errors import PipelineError, format_counts
from pipeline.core.progress import bar
from pipeline.core.terminal import print_line
from pipeline.params import AcquireParams
from pipeline.stages.acquire.class_names import ClassNames
from pipeline.stages.acquire.dataset_toml import ArchiveDataset, ExternalDataset
from pipeline.stages.acquire.layouts.choice import choose_labels
from pipeline.stages.acquire.layouts.labels import FileFacts, FileLabels
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem, SkipReason
from pipeline.stages.acquire.sources import archive, cifar10, folder
from pipeline.stages.acquire.sources.listing import FileTable, SourceFile

# An archive may unpack to MAX_RATIO times its size: photographs are compressed already, and
# deflate reaches 1,000 on zeros.
MAX_RATIO = 200
SLACK_BYTES = 64e6  # beyond that ratio, for small archives of drawings


@dataclass(frozen=True)
class Listing:
    """The files of a folder or archive, and what was left out of it."""

    files: FileTable
    skipped: list[SkippedItem]


def read_images(
    path: Path, dataset: ExternalDataset, params: AcquireParams, names: ClassNames
) -> Iterator[RawImage | SkippedItem]:
    """Yield the images of a folder, zip or tar in the order of its listing, after what it skips.

    Raises:
        PipelineError: the path does not exist, is not a folder or archive, is too large unpacked,
            is damaged, or has no class folders, or `names` refuses its classes.
    """
    with open_listing(path, params) as listing:
        batches = _find_batches(listing.files, dataset)
        if batches:
            records = {file.name for file in batches}
            classes = names.settle(cifar10.CLASSES, path)
            images = _read_batches(path, batches, dataset)
            others = (name for name in listing.files.names() if name not in records)
            outside = (SkippedItem(name, SkipReason.OUTSIDE_CLASS_FOLDERS) for name in others)
        else:  # also for a copy with class folders, where dataset.toml says records
            labels = choose_labels(listing.files, dataset, str(path))
            for note in labels.notes:
                print_line(f"acquire: {note}")
            classes = names.settle(labels.classes(), path, labels.origin)
            images = _read_photographs(path, listing.files, labels, dataset)
            facts = zip(listing.files.names(), labels.facts(listing.files), strict=True)
            outside = (SkippedItem(name, why) for name, why in facts if isinstance(why, SkipReason))
        yield from listing.skipped
        yield from outside
        for image in images:
            yield replace(image, label=classes[image.label])


@contextmanager
def open_listing(path: Path, params: AcquireParams, strict: bool = True) -> Iterator[Listing]:
    """List a folder, zip or tar; its files can be read while the context lasts.

    Args:
        strict: Raise OSError for an unreadable subfolder, instead of skipping it.

    Raises:
        PipelineError: the path does not exist, is none of the three, is too large unpacked, or is
            damaged.
    """
    if path.is_dir():
        yield _check_listing(path, folder.list_files(path, strict), params)
    elif not path.is_file():
        raise PipelineError(f"{path} does not exist: give a folder or archive as dataset.source")
    else:
        with archive.open_archive(path) as container:
            try:
                listing = _check_listing(path, archive.list_members(container), params)
            except archive.DAMAGE as error:
                raise _damage_error(f"{path}", error) from error
            except OSError as error:
                if not archive.is_damage(error):
                    raise
                raise _damage_error(f"{path}", error) from error
            yield listing


def read_file(path: Path, file: SourceFile) -> bytes:
    """Read a file of the listing of `path`.

    Raises:
        PipelineError: it is damaged.
    """
    try:
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


def _find_batches(files: FileTable, dataset: ExternalDataset) -> list[SourceFile]:
    if not isinstance(dataset, ArchiveDataset) or dataset.records is None:
        return []
    return [file for file in files if cifar10.is_batch(file.name)]


def _read_photographs(
    path: Path, files: FileTable, labels: FileLabels, dataset: ExternalDataset
) -> Iterator[RawImage]:
    total = sum(isinstance(facts, FileFacts) for facts in labels.facts(files))
    with bar(f"acquire {path.name}", total=total) as progress:
        for file, facts in zip(files, labels.facts(files), strict=True):
            if isinstance(facts, FileFacts):
                yield RawImage(
                    file.name,
                    facts.label,
                    read_file(path, file),
                    facts.split,
                    facts.licence or dataset.licence,
                    facts.group,
                    facts.owner,
                )
                progress.update()


def _read_batches(
    path: Path, batches: Sequence[SourceFile], dataset: ExternalDataset
) -> Iterator[RawImage]:
    with bar(f"acquire {path.name}", total=None) as progress:
        for file in batches:
            for image in cifar10.read_records(file.name, read_file(path, file), dataset.licence):
                yield image
                progress.update()


def _check_listing(
    path: Path, members: Iterable[SourceFile | SkippedItem], params: AcquireParams
) -> Listing:
    """Separate the files that can be photographs from those that cannot."""
    listing = Listing(FileTable(), [])
    total = 0
    for member in members:
        if isinstance(member, SkippedItem):
            listing.skipped.append(member)
            continue
        total += member.size
        _check_total(path, total, params)
        if is_unsafe(member.name) or not member.name:
            listing.skipped.append(SkippedItem(member.name, SkipReason.UNSAFE_NAME))
        elif member.size > params.max_file_megabytes * 1e6:
            listing.skipped.append(SkippedItem(member.name, SkipReason.TOO_LARGE))
        else:
            listing.files.append(member)
    if listing.skipped and not len(listing.files):
        reasons = format_counts(Counter(item.reason.value for item in listing.skipped))
        raise PipelineError(f"{path}: no file in it can be read ({reasons})")
    return listing


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
