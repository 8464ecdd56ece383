"""What is in a source on disk: images with labels, whatever the layout."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from pipeline.core import shards
from pipeline.core.columns import iterate
from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.core.progress import bar
from pipeline.core.terminal import print_line
from pipeline.datasets.dataset_toml import (
    LABEL_KEYS,
    ArchiveDataset,
    ExternalDataset,
    FolderDataset,
    check_unused,
)
from pipeline.params import AS_DESCRIBED, AcquireParams
from pipeline.stages.acquire.class_names import ClassNames
from pipeline.stages.acquire.layouts.choice import choose_labels
from pipeline.stages.acquire.layouts.embedded_tables import find_embedded
from pipeline.stages.acquire.layouts.file_names import LIST_SUFFIXES
from pipeline.stages.acquire.layouts.labels import FileFacts, FileLabels, UnclearLayoutError
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem, SkipReason
from pipeline.stages.acquire.sources import cifar10
from pipeline.stages.acquire.sources.archives import find_archives, join_listings, stem_of
from pipeline.stages.acquire.sources.files import (
    Listing,
    find_large_parquet,
    open_listing,
    read_file,
)
from pipeline.stages.acquire.sources.listing import SourceFile
from pipeline.stages.acquire.sources.record_batches import RecordBatches
from pipeline.stages.acquire.sources.unsplit_contents import UnsplitContents
from pipeline.stages.acquire.sources.untrained_classes import check_trained
from pipeline.stages.acquire.sources.unused_splits import describe_unused_splits


class Contents(Protocol):
    """The images of a source, with the labels that the source has for them."""

    @property
    def origin(self) -> str:
        """Where the labels come from, for people."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What else people should know, a clause each."""

    def classes(self) -> set[str]:
        """All labels, as the source spells them."""

    def count(self) -> Counter[tuple[str, str | None]]:
        """Images by label and split."""

    def names(self) -> Iterator[str]:
        """The names of the images."""

    def labelled_names(self) -> Iterator[tuple[str, tuple[str, str | None]]]:
        """The names of the images, each with its label and split."""

    def left_out(self) -> Iterator[SkippedItem]:
        """What is left out, without reading images."""

    def files(self) -> Iterator[tuple[Path, str]]:
        """The files of a folder that are needed, each with its path in it."""

    def items(self) -> Iterator[RawImage | SkippedItem]:
        """Yield what is left out, and the images."""


@dataclass(frozen=True)
class LabelledFiles:
    """Files with labels from their folders, their names, tables or files beside them."""

    path: Path
    listing: Listing
    labels: FileLabels
    licence: str | None

    @property
    def origin(self) -> str:
        return self.labels.origin

    @property
    def notes(self) -> tuple[str, ...]:
        return self.labels.notes

    def classes(self) -> set[str]:
        """All labels, as the source spells them."""
        return self.labels.classes()

    def count(self) -> Counter[tuple[str, str | None]]:
        """Images by label and split."""
        all_facts = self.labels.facts(self.listing.files)
        return Counter((x.label, x.split) for x in all_facts if isinstance(x, FileFacts))

    def names(self) -> Iterator[str]:
        """The names of the images."""
        return (name for name, _ in self.labelled_names())

    def labelled_names(self) -> Iterator[tuple[str, tuple[str, str | None]]]:
        """The names of the images, each with its label and split."""
        files = self.listing.files
        for name, facts in zip(files.names(), self.labels.facts(files), strict=True):
            if isinstance(facts, FileFacts):
                yield name, (facts.label, facts.split)

    def files(self) -> Iterator[tuple[Path, str]]:
        """The images, and the files with their labels."""
        files = self.listing.files
        for file, facts in zip(files, self.labels.facts(files), strict=True):
            if not isinstance(facts, SkipReason):
                yield file.path(self.path), os.fsdecode(file.location)

    def left_out(self) -> Iterator[SkippedItem]:
        """The files that are left out, and those that are missing."""
        files = self.listing.files
        yield from self.listing.skipped
        for name, facts in zip(files.names(), self.labels.facts(files), strict=True):
            if isinstance(facts, SkipReason):
                yield SkippedItem(name, facts)
        for name in iterate(self.labels.missing):
            yield SkippedItem(name, SkipReason.MISSING)

    def items(self) -> Iterator[RawImage | SkippedItem]:
        """Yield what is left out, and the images."""
        files = self.listing.files
        yield from self.left_out()
        with bar(f"acquire {self.path.name}", total=self.count().total()) as progress:
            for file, facts in zip(files, self.labels.facts(files), strict=True):
                if isinstance(facts, FileFacts):
                    yield self._read(file, facts)
                    progress.update()

    def _read(self, file: SourceFile, facts: FileFacts) -> RawImage | SkippedItem:
        data = read_file(self.path, file)
        sha256 = facts.sha256 and facts.sha256.lower()
        if sha256 and sha256 != shards.digest(data):
            return SkippedItem(file.name, SkipReason.CHANGED, facts.label)
        return RawImage(
            file.name,
            facts.label,
            data,
            facts.split,
            facts.licence or self.licence,
            facts.group,
            facts.owner,
            sha256=sha256,
        )

    def check_missing(self, max_fraction: float) -> None:
        """Refuse a table of which too many files are missing."""
        missing = self.labels.missing
        if len(missing) > max_fraction * (len(self.listing.files) + len(missing)):
            names = ", ".join(missing.slice(0, 3).to_pylist())
            raise PipelineError(
                f"{self.path}: {self.origin} names {plural(len(missing), 'missing file')}, such as "
                f"{names}, past acquire.max_missing_fraction={max_fraction:g}: get them, or "
                "raise it"
            )


def read_images(
    path: Path, dataset: ExternalDataset, params: AcquireParams, names: ClassNames
) -> Iterator[RawImage | SkippedItem]:
    """Yield the images of a folder or of archives in the order of the listing.

    What is left out comes first.

    Raises:
        PipelineError: the path does not exist, is not a folder or archive, is too large unpacked,
            is damaged, or has no labels, or `names` refuses its classes.
    """
    with open_contents(path, dataset, params) as contents:
        _check_records(contents, dataset, names)
        counts = contents.count()
        splits = {split for _, split in counts}
        own = {} if _ignores_splits(dataset) else dataset.own_splits
        unused = describe_unused_splits(own, splits, contents.names(), names.toml)
        for note in (*contents.notes, *unused):
            print_line(f"acquire: {note}")
        classes = names.settle(contents.classes(), path, contents.origin)
        check_trained(counts, classes, path)
        for item in contents.items():
            yield replace(item, label=classes[item.label]) if isinstance(item, RawImage) else item


@contextmanager
def open_contents(
    path: Path, dataset: ExternalDataset, params: AcquireParams
) -> Iterator[Contents]:
    """Find out what is in a source; it can be read while the context lasts.

    Args:
        path: A folder, an archive, a pattern of archives, or a table beside its images.

    Raises:
        PipelineError: the path does not exist, is none of these, is damaged or too large, or its
            labels are not found.
        AmbiguousLayoutError: its labels can be read in two ways.
    """
    if path.suffix.lower() in LIST_SUFFIXES and path.is_file():
        dataset = dataset.model_copy(update={"table": path.name})
        path = path.parent
    with _open_layout(path, dataset, params) as contents:
        yield _without_splits(contents, path) if _ignores_splits(dataset) else contents


def _ignores_splits(dataset: ExternalDataset) -> bool:
    return isinstance(dataset, FolderDataset | ArchiveDataset) and dataset.ignore_splits


def _without_splits(contents: Contents, path: Path) -> Contents:
    """The contents without splits.

    Raises:
        PipelineError: there are none.
    """
    if not any(split for _, split in contents.count()):
        raise PipelineError(
            f"{path}: ignore_splits = true has no effect, because it has no splits: leave it out"
        )
    return UnsplitContents(contents)


@contextmanager
def _open_layout(path: Path, dataset: ExternalDataset, params: AcquireParams) -> Iterator[Contents]:
    with _open_all(path, dataset, params) as listing:
        if batches := _find_batches(listing, dataset):
            keys = [
                key for key in LABEL_KEYS if key != "encoding" or not listing.files.uses_encoding
            ]
            check_unused(dataset, keys, path, "the records have the labels")
            yield RecordBatches(path, listing, batches, dataset.licence)
        elif embedded := find_embedded(listing.files, dataset, str(path), params):
            embedded.check_missing(params.max_missing_fraction)
            yield embedded
        else:  # also for a copy with class folders, where dataset.toml says records
            labels = _choose_labels(path, listing, dataset, params)
            files = LabelledFiles(path, listing, labels, dataset.licence)
            files.check_missing(params.max_missing_fraction)
            yield files


def _choose_labels(
    path: Path, listing: Listing, dataset: ExternalDataset, params: AcquireParams
) -> FileLabels:
    try:
        return choose_labels(listing.files, dataset, str(path))
    except UnclearLayoutError:
        raise
    except PipelineError as error:
        large = find_large_parquet(path, listing.skipped, params)
        raise PipelineError(large or str(error)) from error


@contextmanager
def _open_all(path: Path, dataset: ExternalDataset, params: AcquireParams) -> Iterator[Listing]:
    archives = find_archives(path)
    if len(archives) == 1:
        with open_listing(archives[0], params, encoding=dataset.encoding) as listing:
            yield listing
        return
    if not archives:
        raise PipelineError(f"no archive is called {path}")
    with ExitStack() as stack:
        parts = {}
        for number, archive in enumerate(archives):
            listing = stack.enter_context(open_listing(archive, params, encoding=dataset.encoding))
            stem = stem_of(archive)
            parts[stem if stem not in parts else f"{stem}-{number}"] = listing
        tables = {stem: (part.files, part.skipped) for stem, part in parts.items()}
        listing = Listing(*join_listings(tables, dataset.splits))
        listing.files.uses_encoding = any(part.files.uses_encoding for part in parts.values())
        yield listing


def _find_batches(listing: Listing, dataset: ExternalDataset) -> list[SourceFile]:
    if not isinstance(dataset, ArchiveDataset) or dataset.records is None:
        return []
    return [file for file in listing.files if cifar10.is_batch(file.name)]


def _check_records(contents: Contents, dataset: ExternalDataset, names: ClassNames) -> None:
    """Refuse the described archive if it lacks the records; a copy of it may have images."""
    records = dataset.records if isinstance(dataset, ArchiveDataset) else None
    if records and names.source == AS_DESCRIBED and not isinstance(contents, RecordBatches):
        raise PipelineError(
            f"{names.toml}: records = {records!r}, but no file in it is called like a batch of "
            "them, such as data_batch_1.bin: leave it out if the images are files"
        )
