"""Lists of the images of splits: Food-101's meta/train.txt and meta/test.txt, or a splits.csv."""

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from pipeline.core.columns import Codes, collect
from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.core.shards import SPLITS
from pipeline.stages.acquire.layouts.file_column import find_file_column
from pipeline.stages.acquire.layouts.file_index import FileIndex
from pipeline.stages.acquire.layouts.table_columns import NamedColumns, find_options
from pipeline.stages.acquire.layouts.table_files import TableFile, open_text_table
from pipeline.stages.acquire.layouts.table_labels import to_splits
from pipeline.stages.acquire.sources.class_folders import is_hidden
from pipeline.stages.acquire.sources.listing import FileTable, SourceFile
from pipeline.stages.acquire.sources.split_folders import WORD, find_split

MAX_LISTS = 50  # with more, they are not of the data set as a whole
MAX_BYTES = 100e6
TABLES, TEXTS = (".csv", ".tsv"), (".txt", ".lst")
CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")  # of TrainImages
LIST_WORDS = frozenset({"list", "lists", "file", "files", "filenames", "ids", "names"})
HINT = re.compile(r"split|partition", re.IGNORECASE)


@dataclass(frozen=True)
class SplitList:
    """Images and their splits."""

    name: str
    positions: Codes
    """Of the images in the listing."""
    splits: Codes
    """Of each, its position in SPLITS."""


class SplitListReader:
    """Reads the lists among the files of a source.

    Attributes:
        candidates: Files that may be lists.
        problems: Why files that seem to be lists cannot be used, a clause each.
    """

    def __init__(self, files: FileTable, splits: Mapping[str, str]) -> None:
        """Find files that may be lists, by their names.

        Args:
            splits: Name of a split, in lower case -> split.
        """
        self.problems: list[str] = []
        self._files = files
        self._splits = splits
        self._index: FileIndex | None = None
        self._is_labelled: npt.NDArray[np.bool_]
        candidates = list(self._candidates())
        self.candidates = candidates if len(candidates) <= MAX_LISTS else []

    def read(self, is_labelled: npt.NDArray[np.bool_]) -> list[SplitList]:
        """The lists of which each line names an image.

        Args:
            is_labelled: Whether each file is an image with a label; lists may name such only.
        """
        self._is_labelled = is_labelled
        return [part for file in self.candidates if (part := self._read(file)) is not None]

    def _candidates(self) -> Iterator[SourceFile]:
        for file, path in zip(self._files, self._files.paths(), strict=True):
            name = path.lower()
            may_tell = name.endswith(TABLES) or (
                name.endswith(TEXTS) and (self._split_of(path) or HINT.search(_stem(path)))
            )
            if may_tell and not is_hidden(path) and file.size <= MAX_BYTES:
                yield file

    def _split_of(self, path: str) -> str | None:
        """The split that a list is named after: train.txt, test_list.txt, TrainImages.txt."""
        words = WORD.findall(CASE.sub(" ", _stem(path)))
        return find_split(
            " ".join(word for word in words if word.lower() not in LIST_WORDS), self._splits
        )

    def _read(self, file: SourceFile) -> SplitList | None:
        """One list; None for a file about anything else."""
        if file.name.lower().endswith(TABLES):
            return self._read_table(file)
        if (split := self._split_of(file.name)) is None:
            self.problems.append(f"{file.name} may tell splits, in a form that is not read")
            return None
        positions = self._find_lines(file)
        known = int((positions >= 0).sum())
        if not known or known < len(positions):
            if known:
                unknown = plural(len(positions) - known, "line")
                self.problems.append(f"{file.name} has {unknown} that name no image with a label")
            return None
        codes = np.full(len(positions), SPLITS.index(split), np.int32)
        return SplitList(file.name, positions, codes)

    def _find_lines(self, file: SourceFile) -> Codes:
        """The images that lines name, as a whole or by what is before the first separator."""
        text = file.read().decode("utf-8-sig", errors="replace")
        lines = [line.strip() for line in io.StringIO(text) if line.strip() and line[0] != "#"]
        if not lines:
            return np.zeros(0, np.int32)
        folder = file.name[: file.name.rfind("/") + 1]
        whole = self._images().find(collect(lines), folder).positions
        if (whole >= 0).all():
            return whole
        first = (re.split(r"[\s,;|]", line)[0] for line in lines)
        return self._images().find(collect(first), folder).positions

    def _read_table(self, file: SourceFile) -> SplitList | None:
        try:
            table = open_text_table(file.name, file.read(), None)
        except PipelineError:  # it is about something else
            return None
        column = find_options(table.columns).get("split")
        if column is None or not table.has_header:
            return None
        return self._read_column(table, column)

    def _read_column(self, table: TableFile, column: str) -> SplitList | None:
        try:
            _, positions, _ = find_file_column(
                table, self._images(), NamedColumns(), self._splits, None
            )
            if not (positions >= 0).any():
                return None
            names = to_splits(table.read([column]).column(0), self._splits, table.name, column)
        except PipelineError as error:
            self.problems.append(str(error))
            return None
        codes = [SPLITS.index(name) if name else -1 for name in names.to_pylist()]
        splits = np.array(codes, np.int32)
        is_known = (positions >= 0) & (splits >= 0)
        return SplitList(table.name, positions[is_known], splits[is_known])

    def _images(self) -> FileIndex:
        self._index = self._index or FileIndex(self._files).among(self._is_labelled)
        return self._index


def _stem(path: str) -> str:
    return PurePosixPath(path).stem
