"""Several archives as one: parts, splits, or a class each."""

import struct
from collections.abc import Mapping
from pathlib import Path

from pipeline.stages.acquire.layouts.table_labels import split_of_name
from pipeline.stages.acquire.raw_image import SkippedItem
from pipeline.stages.acquire.sources.listing import FileTable, Reader, SourceFile

NUMBER = struct.Struct("<I")  # of an archive, before the location in it
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")


def find_archives(path: Path) -> list[Path]:
    """The archives that a path or a pattern names, sorted; the path itself if it exists."""
    is_pattern = any(character in path.name for character in "*?[")
    return sorted(path.parent.glob(path.name)) if is_pattern and not path.exists() else [path]


def stem_of(path: Path) -> str:
    """The name of an archive without its suffix."""
    name = path.name
    for suffix in sorted(ARCHIVE_SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def join_listings(
    parts: Mapping[str, tuple[FileTable, list[SkippedItem]]], splits: Mapping[str, str]
) -> tuple[FileTable, list[SkippedItem]]:
    """The files of all archives, each below the name of its archive.

    Layouts see a split's name in its place, if the archive is named after one; the archive's own
    name, which is the class, if no archive has folders; or else nothing.
    """
    readers: list[Reader] = []

    def read(location: bytes) -> bytes:
        number: int = NUMBER.unpack(location[: NUMBER.size])[0]
        return readers[number](location[NUMBER.size :])

    files, skipped = FileTable(), []
    for number, (stem, (table, left_out)) in enumerate(parts.items()):
        for file in table:
            if len(readers) == number:
                readers.append(file.reader)
            location = NUMBER.pack(number) + file.location
            files.append(SourceFile(f"{stem}/{file.name}", file.size, location, read))
        if len(readers) == number:
            readers.append(read)  # of an archive without files
        skipped += [SkippedItem(f"{stem}/{item.name}", item.reason) for item in left_out]
    names = {stem: split_of_name(f"{stem}.", splits) for stem in parts}
    are_classes = not any(names.values()) and not any(
        "/" in name for table, _ in parts.values() for name in table.names()
    )
    files.prefixes = {
        stem: f"{names[stem]}/" if names[stem] else f"{stem}/" if are_classes else ""
        for stem in parts
    }
    return files, skipped
