"""Several archives as one: parts, splits, or a class each."""

import re
import struct
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pipeline.stages.acquire.layouts.file_names import ARCHIVE_SUFFIXES
from pipeline.stages.acquire.layouts.table_labels import split_of_name
from pipeline.stages.acquire.raw_image import SkippedItem
from pipeline.stages.acquire.sources.class_folders import count_images, is_junk
from pipeline.stages.acquire.sources.listing import FileTable, Reader, SourceFile

NUMBER = struct.Struct("<I")  # of an archive, before the location in it


def find_archives(path: Path) -> list[Path]:
    """The archives that a path or a pattern names, sorted; the path itself if it exists."""
    is_pattern = any(character in path.name for character in "*?[")
    return glob(path) if is_pattern and not path.exists() else [path]


def glob(pattern: Path) -> list[Path]:
    """The files that a pattern of names matches, sorted, without junk such as ._photos.zip."""
    paths = pattern.parent.glob(pattern.name)
    return sorted(path for path in paths if not is_junk(path.name))


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
    name, which is the class, if no archive has folders; or else nothing. A folder around all files
    of one archive, which others lack, is left out.
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
    files.wrappers = _find_wrappers({stem: table for stem, (table, _) in parts.items()})
    return files, skipped


def _find_wrappers(parts: Mapping[str, FileTable]) -> dict[str, str]:
    """The folder around all images of each archive, where that differs in its number alone.

    Such are parts of one set, as d1/cat and d2/cat; alice/cat and bob/cat may be either.
    """
    wrappers: dict[str, str] = {}
    inside: set[str] = set()
    for stem, table in parts.items():
        folders = [PurePosixPath(folder).parts for folder in count_images(table.names())]
        outer = {folder[0] for folder in folders if folder}
        if len(outer) != 1 or any(len(folder) < 2 for folder in folders):
            return {}
        wrappers[stem] = min(outer)
        inside |= {folder[1] for folder in folders}
    names = set(wrappers.values())
    are_parts = len({re.sub("[0-9]+", "#", name) for name in names}) == 1 < len(names)
    return wrappers if are_parts and len(inside) > 1 else {}
