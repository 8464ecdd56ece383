"""Forms of the paths by which tables name files: whole, without first folders, by their ends."""

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import TypeAlias

import pyarrow.compute as pc

from pipeline.core.columns import Column, collect, iterate

SUFFIX = r"(?i)\.(jpe?g|jpe|jfif|png|gif|bmp|dib|tiff?|webp|hei[cf]|avif|jxl|jp2|p[bgnp]m|ico)$"
MAX_FOLDERS = 12  # around files, that are compared or left out
UP = re.compile(r"(^|/)\.\.(/|\Z)")
Spelling: TypeAlias = Callable[[Column], Column]


@dataclass(frozen=True)
class Form:
    """How paths of a table and of files are written to be compared."""

    spell: Spelling
    """Of a path of the table."""
    files: Callable[[], Column]
    """The paths of the files in this form."""
    has_folders: bool
    """Whether folders are compared, or names alone."""


def tidy(paths: Column) -> Column:
    """Paths with forward slashes, without empty folders and `.`."""
    paths = pc.replace_substring(paths, "\\", "/")
    paths = pc.replace_substring_regex(paths, r"^file:/+", "/")
    paths = pc.replace_substring_regex(paths, r"//+", "/")
    return pc.replace_substring_regex(paths, r"(^|/)(\./)+", r"\1")


def forms(values: Column, files: Column, folder: str) -> Iterator[Form]:
    """The forms of paths in the order in which they count.

    As paths from the table's folder, or from the top; without the first folders that all have,
    which are those of another machine; by their ends, the longest first; by names alone. Each is
    followed by the same without suffix.

    Args:
        folder: Of the table, with a slash at its end, or "".
    """
    has_folders = any_has_folders(values)
    whole, stems = (lambda: files), cache(partial(stem_of, files))
    for prefix in dict.fromkeys((folder, "")):
        yield from _both(partial(_join, prefix), whole, stems, True)
    if has_folders:
        for count in range(1, _common_depth(values) + 1):
            yield from _both(partial(_without_first, count), whole, stems, True)
        for count in range(_depth(files), 0, -1):
            end = partial(_end, count)
            yield from _both(end, partial(end, files), partial(_apply, end, stems), True)
    yield from _both(name_of, partial(name_of, files), partial(_apply, name_of, stems), False)


def _apply(spell: Spelling, paths: Callable[[], Column]) -> Column:
    return spell(paths())


def _both(
    spell: Spelling, whole: Callable[[], Column], stems: Callable[[], Column], has_folders: bool
) -> Iterator[Form]:
    yield Form(spell, whole, has_folders)
    yield Form(lambda values: stem_of(spell(values)), stems, has_folders)


def any_has_folders(paths: Column) -> bool:
    """Whether any path has a folder."""
    return bool(pc.any(pc.match_substring(paths, "/")).as_py())


def name_of(paths: Column) -> Column:
    """The paths without folders."""
    return pc.replace_substring_regex(paths, r"^.*/", "")


def stem_of(paths: Column) -> Column:
    """The paths without the suffix of an image."""
    return pc.replace_substring_regex(paths, SUFFIX, "")


def _join(folder: str, paths: Column) -> Column:
    """Paths from a folder; `..` is resolved, but stays where it leads out of the top."""
    joined = pc.binary_join_element_wise(folder, paths, "") if folder else paths
    if not pc.any(pc.match_substring(joined, "../")).as_py():
        return joined
    return collect(map(_resolve, iterate(joined)))


def _resolve(path: str) -> str:
    return posixpath.normpath(path) if UP.search(path) else path


def _depth(paths: Column) -> int:
    """The most folders around a file, MAX_FOLDERS at most."""
    return min(MAX_FOLDERS, pc.max(pc.count_substring(paths, "/")).as_py() or 0)


def _common_depth(paths: Column) -> int:
    """The number of first folders that all paths share, MAX_FOLDERS at most."""
    bounds = pc.min_max(paths).as_py()
    first, last = (bounds[key].split("/")[:-1] for key in ("min", "max"))
    common = posixpath.commonprefix([first, last])
    return min(MAX_FOLDERS, len(common))


def _without_first(count: int, paths: Column) -> Column:
    return pc.replace_substring_regex(paths, rf"^([^/]*/){{{count}}}", "")


def _end(count: int, paths: Column) -> Column:
    """The last folders, as many as `count`, and the name."""
    pattern = rf"^.*/((?:[^/]+/){{{count}}}[^/]+)$"
    return pc.replace_substring_regex(paths, pattern, r"\1")
