"""CIFAR-10's binary batches in an archive."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.progress import bar
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem, SkipReason
from pipeline.stages.acquire.sources import cifar10
from pipeline.stages.acquire.sources.files import Listing, read_file
from pipeline.stages.acquire.sources.listing import SourceFile


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

    def labelled_names(self) -> Iterator[tuple[str, tuple[str, str | None]]]:
        """The names of the images, each with its label and split."""
        return ((image.name, (image.label, image.split)) for image in self._images())

    def left_out(self) -> Iterator[SkippedItem]:
        """Members that are not records."""
        yield from self.listing.skipped
        records = {file.name for file in self.batches}
        for name in self.listing.files.names():
            if name not in records:
                yield SkippedItem(name, SkipReason.OUTSIDE_CLASS_FOLDERS)

    def files(self) -> Iterator[tuple[Path, str]]:
        """None: the records are in an archive."""
        return iter(())

    def items(self) -> Iterator[RawImage | SkippedItem]:
        """Yield what is left out, and the images."""
        yield from self.left_out()
        with bar(f"acquire {self.path.name}", total=None) as progress:
            for image in self._images():
                yield image
                progress.update()

    def _images(self) -> Iterator[RawImage]:
        for file in self.batches:
            yield from cifar10.read_records(file.name, read_file(self.path, file), self.licence)
