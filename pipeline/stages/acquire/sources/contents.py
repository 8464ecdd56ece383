"""What is in a source on disk: images with labels, whatever the layout."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from pipeline.core import shards
from pipeline.core.columns import iterate
from pipeline.core.errors import PipelineError
from pipeline.core.progress import bar
from pipeline.core.terminal import print_line
from pipeline.params import AcquireParams
from pipeline.stages.acquire.class_names import ClassNames
from pipeline.stages.acquire.dataset_toml import ArchiveDataset, ExternalDataset
from pipeline.stages.acquire.layouts.choice import choose_labels
from pipeline.stages.acquire.layouts.embedded_images import find_embedded
from pipeline.stages.acquire.layouts.file_names import TABLE_SUFFIXES
from pipeline.stages.acquire.layouts.labels import FileFacts, FileLabels
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem, SkipReason
from pipeline.stages.acquire.sources import cifar10
from pipeline.stages.acquire.sources.archives import find_archives, join_listings, stem_of
from pipeline.stages.acquire.sources.files import Listing, open_listing, read_file
from pipeline.stages.acquire.sources.listing import SourceFile


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

    def left_out(self) -> Counter[str]:
        """Files by the reason why they are left out, without reading images."""

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
        files = self.listing.files
        for name, facts in zip(files.names(), self.labels.facts(files), strict=True):
            if isinstance(facts, FileFacts):
                yield name

    def left_out(self) -> Counter[str]:
        """Files by the reason why they are left out."""
        return Counter(item.reason.value for item in self._skipped())

    def files(self) -> Iterator[tuple[Path, str]]:
        """The images, and the files with their labels."""
        files = self.listing.files
        for file, facts in zip(files, self.labels.facts(files), strict=True):
            if not isinstance(facts, SkipReason):
                yield file.path(self.path), os.fsdecode(file.location)

    def _skipped(self) -> Iterator[SkippedItem]:
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
        yield from self._skipped()
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
                f"{self.path}: {len(missing)} files that {self.origin} names are missing, such as "
                f"{names}, past acquire.max_missing_fraction={max_fraction:g}: get them, or "
                "raise it"
            )


@dataclass(frozen=True)
class RecordBatches:
    """CIFAR-10's binary batches, and what else is in their archive."""

    path: Path
    listing: Listing
    batches: Sequence[SourceFile]
    licence: str | None
    origin: str = "the records"
    notes: tuple[str, ...] = ()

    def classes(self) -> set[str]:
        """All labels of such records."""
        return set(cifar10.CLASSES)

    def count(self) -> Counter[tuple[str, str | None]]:
        """Images by label and split."""
        return Counter((image.label, image.split) for image in self._images())

    def names(self) -> Iterator[str]:
        """The names of the images."""
        return (image.name for image in self._images())

    def left_out(self) -> Counter[str]:
        """Members that are not records."""
        reason = SkipReason.OUTSIDE_CLASS_FOLDERS.value
        return Counter({reason: len(self.listing.files) - len(self.batches)})

    def files(self) -> Iterator[tuple[Path, str]]:
        """None: the records are in an archive."""
        return iter(())

    def items(self) -> Iterator[RawImage | SkippedItem]:
        """Yield what is left out, and the images."""
        yield from self.listing.skipped
        records = {file.name for file in self.batches}
        for name in self.listing.files.names():
            if name not in records:
                yield SkippedItem(name, SkipReason.OUTSIDE_CLASS_FOLDERS)
        with bar(f"acquire {self.path.name}", total=None) as progress:
            for image in self._images():
                yield image
                progress.update()

    def _images(self) -> Iterator[RawImage]:
        for file in self.batches:
            yield from cifar10.read_records(file.name, read_file(self.path, file), self.licence)


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
        for note in contents.notes:
            print_line(f"acquire: {note}")
        classes = names.settle(contents.classes(), path, contents.origin)
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
    if path.suffix.lower() in TABLE_SUFFIXES and path.is_file():
        dataset = dataset.model_copy(update={"table": path.name})
        path = path.parent
    with _open_all(path, dataset, params) as listing:
        if batches := _find_batches(listing, dataset):
            yield RecordBatches(path, listing, batches, dataset.licence)
        elif embedded := find_embedded(listing.files, dataset, path, params):
            yield embedded
        else:  # also for a copy with class folders, where dataset.toml says records
            labels = choose_labels(listing.files, dataset, str(path))
            files = LabelledFiles(path, listing, labels, dataset.licence)
            files.check_missing(params.max_missing_fraction)
            yield files


@contextmanager
def _open_all(path: Path, dataset: ExternalDataset, params: AcquireParams) -> Iterator[Listing]:
    archives = find_archives(path)
    if len(archives) == 1:
        with open_listing(archives[0], params) as listing:
            yield listing
        return
    if not archives:
        raise PipelineError(f"no archive is called {path}")
    with ExitStack() as stack:
        parts = {}
        for number, archive in enumerate(archives):
            listing = stack.enter_context(open_listing(archive, params))
            stem = stem_of(archive)
            parts[stem if stem not in parts else f"{stem}-{number}"] = listing
        tables = {stem: (part.files, part.skipped) for stem, part in parts.items()}
        yield Listing(*join_listings(tables, dataset.splits))


def _find_batches(listing: Listing, dataset: ExternalDataset) -> list[SourceFile]:
    if not isinstance(dataset, ArchiveDataset) or dataset.records is None:
        return []
    return [file for file in listing.files if cifar10.is_batch(file.name)]
