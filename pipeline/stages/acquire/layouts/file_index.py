"""Find the files that a table names: by path, by name, with or without suffix."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import columns
from pipeline.core.columns import Codes, Column
from pipeline.stages.acquire.layouts.file_names import is_image_name
from pipeline.stages.acquire.layouts.path_forms import Form, forms, name_of, stem_of, tidy
from pipeline.stages.acquire.sources.class_folders import is_hidden
from pipeline.stages.acquire.sources.listing import ROWS, FileTable

MISSING = -1
AMBIGUOUS = -2  # several files have this name
SAMPLE, MIN_SAMPLED = 1_000, 10_000  # values that are tried first, of so many at least
MIN_GAIN = 2.0  # of files found by names alone, over those found by their folders too


@dataclass(frozen=True)
class Match:
    """The files that the rows of a table name."""

    positions: Codes
    """Of the file of each row in the listing, MISSING or AMBIGUOUS."""
    has_folders: bool = False
    """Whether folders were compared, or names alone."""

    def rank(self) -> tuple[int, int]:
        """The number of files, and of rows with a name of several: more is better."""
        files = np.unique(self.positions[self.positions >= 0])
        return len(files), int((self.positions == AMBIGUOUS).sum())


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
        mask = [is_inside(path.rpartition("/")[0]) for path in columns.iterate(self._paths)]
        return self._filter(np.array(mask, np.bool_))

    def among(self, is_used: npt.NDArray[np.bool_]) -> "FileIndex":
        """The images that are used, by a mask of the files of the listing."""
        return self._filter(is_used[self._positions])

    def _filter(self, mask: npt.NDArray[np.bool_]) -> "FileIndex":
        index = FileIndex(FileTable())
        index.count = self.count
        index._positions = self._positions[mask]
        index._paths = self._paths.filter(columns.booleans(mask))
        index._is_nfc = self._is_nfc
        return index

    def examples(self, count: int) -> list[str]:
        """The first paths."""
        return list(self._paths.slice(0, count).to_pylist())

    def path_of(self, position: int) -> str:
        """The path of the image at a position of the listing."""
        row = int(np.searchsorted(self._positions, position))
        return str(self._paths[row].as_py())

    def find(self, values: Column, folder: str) -> Match:
        """The files that some values name.

        The values are read in the form that finds the most files, and those that are missing then
        in others. Names alone count where paths find hardly any: of paths in a folder that is not
        here, a file of this name in another folder is not meant.

        Args:
            folder: Of the table, with a slash at its end, or "".
        """
        names = self._spell(values)
        match = self._find(names, forms(names, self._paths, folder))
        if not match.has_folders:
            return match
        positions = self._fill(match.positions, names, self._paths, folder, True)
        bare = pc.if_else(pc.match_substring(names, "/"), "", names)
        return Match(self._fill(positions, bare, self._paths, folder, False), True)

    def find_loosely(self, values: Column, folder: str, exact: Match) -> Codes:
        """Fill the missing positions by names that differ in case, blanks or leading zeros.

        A name that several files have without them stays missing, and so does one of a file that
        another row names exactly.
        """
        names = self._spell(values)
        result = exact.positions
        lower = _lower(names), _lower(self._paths), folder.lower()
        if exact.has_folders:
            return self._fill(result, *lower, True)
        result = self._fill(result, *lower, False)
        return self._fill(result, _unpadded(names), _unpadded(self._paths), "", False)

    def _fill(
        self, positions: Codes, names: Column, paths: Column, folder: str, has_folders: bool
    ) -> Codes:
        """Fill the missing positions by files that no row names yet.

        Args:
            has_folders: Whether only forms with folders count.
        """
        missing = np.flatnonzero(positions == MISSING)
        if not len(missing):
            return positions
        names = names.filter(columns.booleans(positions == MISSING))
        tried = forms(names, paths, folder)
        tried = (form for form in tried if form.has_folders or not has_folders)
        more = self._find(names, tried).positions
        more[np.isin(more, positions)] = MISSING
        result = positions.copy()
        result[missing[more >= 0]] = more[more >= 0]
        return result

    def paths_called(self, value: str, count: int) -> list[str]:
        """The first paths with the name of a value, without suffix."""
        stem = stem_of(name_of(self._spell(columns.texts([value]))))[0]
        return list(
            self._paths.filter(pc.equal(stem_of(name_of(self._paths)), stem))[:count].to_pylist()
        )

    def _spell(self, values: Column) -> Column:
        names = tidy(values)
        return _compose(names) if self._is_nfc else names

    def _find(self, names: Column, tried: Iterable[Form]) -> Match:
        best = Match(np.full(len(names), MISSING, np.int32))
        some = _sample(names)
        for form in tried:
            files = form.files()
            if len(some) < len(names) and not _any_equal(form.spell(some), files):
                continue
            match = Match(self._match(form.spell(names), files), form.has_folders)
            if _is_better(match, best):
                best = match
            if len(names) and (best.positions >= 0).all():
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


def _sample(values: Column) -> Column:
    """Some values of many, evenly spread, which tell whether a form is worth trying."""
    if len(values) <= MIN_SAMPLED:
        return values
    rows = np.linspace(0, len(values) - 1, SAMPLE).astype(np.int64)
    return values.take(pa.array(rows))


def _any_equal(some: Column, paths: Column) -> bool:
    value_set = columns.contiguous(some)
    return bool(pc.any(pc.is_in(paths, value_set=value_set)).as_py())


def _is_better(match: Match, best: Match) -> bool:
    files, ambiguous = match.rank()
    most, others = best.rank()
    if not most:
        return (files, ambiguous) > (0, others)
    gain = MIN_GAIN if best.has_folders and not match.has_folders else 1
    return files > gain * most


def _compose(values: Column) -> Column:
    return pc.utf8_normalize(values, "NFC")


def _lower(values: Column) -> Column:
    return pc.utf8_lower(pc.utf8_trim_whitespace(values))


def _unpadded(values: Column) -> Column:
    """Names that are numbers, without zeros in front."""
    stems = stem_of(name_of(_lower(values)))
    return pc.replace_substring_regex(stems, "^0+([0-9]+)$", r"\1")
