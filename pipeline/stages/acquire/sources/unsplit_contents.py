"""A source whose splits do not count, as `ignore_splits` of dataset.toml says."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.stages.acquire.raw_image import RawImage, SkippedItem

if TYPE_CHECKING:
    from pipeline.stages.acquire.sources.contents import Contents


@dataclass(frozen=True)
class UnsplitContents:
    """The images of a source, without their splits."""

    contents: "Contents"

    @property
    def origin(self) -> str:
        return self.contents.origin

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.contents.notes, "the splits of the source are ignored: split assigns all")

    def classes(self) -> set[str]:
        """All labels, as the source spells them."""
        return self.contents.classes()

    def count(self) -> Counter[tuple[str, str | None]]:
        """Images by label; the split is None."""
        counts: Counter[tuple[str, str | None]] = Counter()
        for (label, _), count in self.contents.count().items():
            counts[label, None] += count
        return counts

    def names(self) -> Iterator[str]:
        """The names of the images."""
        return self.contents.names()

    def labelled_names(self) -> Iterator[tuple[str, tuple[str, str | None]]]:
        """The names of the images, each with its label; the split is None."""
        for name, (label, _) in self.contents.labelled_names():
            yield name, (label, None)

    def left_out(self) -> Iterator[SkippedItem]:
        """What is left out, without reading images."""
        return self.contents.left_out()

    def files(self) -> Iterator[tuple[Path, str]]:
        """The files of a folder that are needed, each with its path in it."""
        return self.contents.files()

    def items(self) -> Iterator[RawImage | SkippedItem]:
        """Yield what is left out, and the images."""
        for item in self.contents.items():
            yield replace(item, split=None) if isinstance(item, RawImage) else item
