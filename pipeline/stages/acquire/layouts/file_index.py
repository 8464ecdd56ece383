"""Find the files that a table names: by path, by name, with or without suffix."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import columns
from pipeline.core.columns import Codes, Column
from pipeline.stages.acquire.layouts.file_names import is_image_name
from pipeline.stages.acquire.sources.class_folders import is_hidden
from pipeline.stages.acquire.sources.listing import ROWS, FileTable

SUFFIX = r"(?i)\.(jpe?g|jpe|jfif|png|gif|bmp|dib|tiff?|webp|hei[cf]|avif|jxl|jp2|p[bgnp]m|ico)$"
Way: TypeAlias = Callable[[Column, str], Column]
MISSING = -1
AMBIGUOUS = -2  # several files have this name


class FileIndex:
    """The images of a listing, by their paths and names."""

    def __init__(self, files: FileTable) -> None:
        paths: list[pa.Array] = []
        positions: list[int] = []
        pending: list[str] = []
        for position, path in enumerate(files.paths()):
            if not is_image_name(path) or is_hidden(path):
                continue
            positions.append(position)
            pending.append(path)
            if len(pending) == ROWS:
                paths.append(columns.texts(pending))
                pending = []
        self.count = len(files)
        self._positions = np.array(positions, np.int32)
        self._paths = pa.chunked_array([*paths, columns.texts(pending)])
        self._is_nfc = True
        """Whether all names are compared in Unicode's composed form, as no two are equal in it."""
        composed = _compose(self._paths)
        if not composed.equals(self._paths):
            self._is_nfc = pc.count_distinct(composed).as_py() == len(composed)
            self._paths = composed if self._is_nfc else self._paths

    def select(self, is_inside: Callable[[str], bool]) -> "FileIndex":
        """The images in some folders."""
        mask = np.array(
            [is_inside(path.rpartition("/")[0]) for path in columns.iterate(self._paths)]
        )
        index = FileIndex(FileTable())
        index.count = self.count
        index._positions = self._positions[mask.astype(bool)]
        index._paths = self._paths.filter(columns.booleans(mask.astype(bool)))
        index._is_nfc = self._is_nfc
        return index

    def examples(self, count: int) -> list[str]:
        """The first paths."""
        return list(self._paths.slice(0, count).to_pylist())

    def path_of(self, position: int) -> str:
        """The path of the image at a position of the listing."""
        row = int(np.searchsorted(self._positions, position))
        return str(self._paths[row].as_py())

    def find(self, values: Column, folder: str) -> Codes:
        """The position of the file that each value names, MISSING or AMBIGUOUS.

        All values are read in one way: as paths from the table's folder or from the root, or as
        names, with or without suffix; the way that finds the most.

        Args:
            folder: Of the table, with a slash at its end, or "".
        """
        names = self._spell(values)
        has_folders = bool(pc.any(pc.match_substring(names, "/")).as_py())
        return self._find(names, self._paths, folder, WAYS if has_folders else NAME_WAYS)

    def find_loosely(self, values: Column, folder: str, positions: Codes) -> Codes:
        """Fill the missing positions by names that differ in case, blanks or leading zeros.

        A name that several files have without them stays missing.
        """
        if not len(positions) or (positions != MISSING).all():
            return positions
        missing = np.flatnonzero(positions == MISSING)
        names = self._spell(values).filter(columns.booleans(positions == MISSING))
        result = positions.copy()
        for spell, ways in ((_unpadded, (_paths,)), (_lower, (_paths, _names, _stems))):
            more = self._find(spell(names), spell(self._paths), folder.lower(), ways)
            result[missing[more >= 0]] = more[more >= 0]  # the last spelling changes least
        return result

    def _spell(self, values: Column) -> Column:
        names = pc.replace_substring(values, "\\", "/")
        names = pc.replace_substring_regex(names, r"^(\./)+", "")
        return _compose(names) if self._is_nfc else names

    def _find(self, names: Column, paths: Column, folder: str, ways: Sequence[Way]) -> Codes:
        best = np.full(len(names), MISSING, np.int32)
        for way in ways:
            keys = way(paths, "")
            for prefix in dict.fromkeys((folder, "")):
                positions = self._match(way(names, prefix), keys)
                if _score(positions) > _score(best):
                    best = positions
            if len(best) and (best >= 0).all():
                break
        return best

    def _match(self, values: Column, keys: Column) -> Codes:
        if not len(keys):
            return np.full(len(values), MISSING, np.int32)
        rows = columns.positions(values, keys)
        positions = np.where(rows >= 0, self._positions[np.maximum(rows, 0)], MISSING)
        counts = pc.value_counts(keys)
        repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
        if len(repeated):
            is_repeated = columns.mask(pc.is_in(values, value_set=repeated))
            positions = np.where(is_repeated & (rows >= 0), AMBIGUOUS, positions)
        return positions.astype(np.int32)


def _score(positions: Codes) -> tuple[int, int]:
    return int((positions >= 0).sum()), int((positions == AMBIGUOUS).sum())


def _paths(values: Column, prefix: str) -> Column:
    return pc.binary_join_element_wise(prefix, values, "") if prefix else values


def _stem_paths(values: Column, prefix: str) -> Column:
    return _stem(_paths(values, prefix))


def _names(values: Column, _: str) -> Column:
    return pc.replace_substring_regex(values, r"^.*/", "")


def _stems(values: Column, prefix: str) -> Column:
    return _stem(_names(values, prefix))


def _stem(values: Column) -> Column:
    return pc.replace_substring_regex(values, SUFFIX, "")


def _endings(values: Column, _: str) -> Column:
    """The last folder and the name: of paths of another machine."""
    return pc.replace_substring_regex(values, r"^.*/([^/]+/[^/]+)$", r"\1")


def _long_endings(values: Column, _: str) -> Column:
    return pc.replace_substring_regex(values, r"^.*/([^/]+/[^/]+/[^/]+)$", r"\1")


def _stem_endings(values: Column, prefix: str) -> Column:
    return _stem(_endings(values, prefix))


NAME_WAYS: Sequence[Way] = (_paths, _stem_paths, _names, _stems)
WAYS: Sequence[Way] = (
    _paths,
    _stem_paths,
    _long_endings,
    _endings,
    _stem_endings,
    _names,
    _stems,
)


def _compose(values: Column) -> Column:
    return pc.utf8_normalize(values, "NFC")


def _lower(values: Column) -> Column:
    return pc.utf8_lower(pc.utf8_trim_whitespace(values))


def _unpadded(values: Column) -> Column:
    """Names that are numbers, without zeros in front."""
    return pc.replace_substring_regex(_stems(_lower(values), ""), "^0+([0-9]+)$", r"\1")
