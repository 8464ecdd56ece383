"""Class folders beside a table: which of the two has the labels, or both together."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from pipeline.core.columns import Column
from pipeline.core.plurals import plural
from pipeline.core.unicode import to_nfc
from pipeline.stages.acquire.layouts.album_folders import are_albums
from pipeline.stages.acquire.layouts.folder_labels import ClassFolderLabels
from pipeline.stages.acquire.layouts.labels import (
    AmbiguousLayoutError,
    FileFacts,
    FileLabels,
    Reading,
    have_numbers_only,
    sample,
)
from pipeline.stages.acquire.layouts.name_labels import is_no_class
from pipeline.stages.acquire.layouts.table_labels import TableLabels
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources.listing import FileTable
from pipeline.stages.acquire.sources.split_folders import find_split


@dataclass(frozen=True)
class TableWithFolders:
    """The labels of a table, and those of class folders for the images that are not in it."""

    table: TableLabels
    folders: ClassFolderLabels
    names: Mapping[str, str]
    """Label of the table -> class, where the table has numbers of the class folders."""
    splits: Mapping[str, str]
    """Name of a split -> split."""

    @property
    def origin(self) -> str:
        """Where the labels come from, for people."""
        return f"{self.table.origin}, and {self.folders.origin}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What else people should know, a clause each."""
        return (*self.table.notes, *self.folders.notes)

    @property
    def missing(self) -> Column:
        """Files that the table names, but are not there."""
        return self.table.missing

    @property
    def has_texts(self) -> bool:
        """Whether a table is a text in some encoding."""
        return self.table.has_texts

    def classes(self) -> set[str]:
        """All labels, as the source spells them."""
        by_table = {self.names.get(label, label) for label in self.table.classes()}
        return by_table | self.folders.classes()

    def facts(self, files: FileTable) -> Iterator[FileFacts | SkipReason | None]:
        """What is known of each file, in their order, or why it is left out; None for a table."""
        rows = zip(files.paths(), self.table.facts(files), self.folders.facts(files), strict=True)
        for path, by_table, by_folder in rows:
            if isinstance(by_table, FileFacts):
                label = self.names.get(by_table.label, by_table.label)
                split = by_table.split or _split_above(path, self.splits)
                yield replace(by_table, label=label, split=split)
            elif by_table is SkipReason.UNLABELLED and isinstance(by_folder, FileFacts):
                yield by_folder
            else:
                yield by_table


@dataclass
class _Comparison:
    """The labels of the same files by class folders and by a table."""

    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Files by both labels."""
    by_folder: Counter[str | None] = field(default_factory=Counter)
    """Files that the folders alone label, by split."""
    by_table: Counter[str | None] = field(default_factory=Counter)
    """Files that the table labels, by split."""
    table_folders: set[str] = field(default_factory=set)
    """The folders of files that the table alone labels."""

    def names(self) -> tuple[set[str], set[str]]:
        """The labels of the folders and of the table, of files that have both."""
        return {label for label, _ in self.pairs}, {label for _, label in self.pairs}

    def is_renaming(self) -> bool:
        """Whether the labels match one to one."""
        first, second = self.names()
        return len(first) == len(second) == len(self.pairs)

    def is_refining(self) -> bool:
        """Whether the labels match one to one, or each of one side has one of the other."""
        return max(map(len, self.names())) == len(self.pairs)


def choose_table_or_folders(
    folders: ClassFolderLabels,
    table: TableLabels,
    files: FileTable,
    splits: Mapping[str, str],
    where: str,
) -> TableLabels | TableWithFolders:
    """The labels of a table that agrees with class folders, or those of both.

    The folders' labels count for images that the table lacks, if these are of other splits and the
    two have the same classes. Where the table has a number for each folder, the names count.
    Folders that cameras and calendars name tell nothing.

    Raises:
        AmbiguousLayoutError: the two tell different classes, or the table lacks images of the
            class folders.
    """
    if are_albums(folders.classes()):
        return table
    compared = _compare(folders, table, files, splits)
    folders = replace(folders, unlabelled=folders.unlabelled - compared.table_folders)
    names = _names_of_numbers(compared)
    labels = {names.get(label, label) for label in table.classes()}
    if compared.by_folder and not any(map(is_no_class, compared.names()[0])):
        is_same = all(names.get(label, label) == folder for folder, label in compared.pairs)
        if is_same and labels <= folders.classes() and _are_disjoint(compared):
            return TableWithFolders(table, folders, names, splits)
        few, many = compared.by_table.total(), compared.by_folder.total()
        raise _ambiguous(
            folders,
            table,
            f"{table.origin} labels {plural(few, 'image')}, and its folders {many} others",
            where,
        )
    if not compared.is_refining() or _has_swapped(compared):
        problem = f"its folders and {table.origin} tell different classes"
        raise _ambiguous(folders, table, problem, where)
    if compared.by_folder or not labels <= folders.classes():
        return table
    has_splits = compared.by_table.keys() != {None}
    return TableWithFolders(table, folders, names, splits) if names or has_splits else table


def repeats_folders(
    folders: ClassFolderLabels, table: TableLabels, files: FileTable, splits: Mapping[str, str]
) -> bool:
    """Whether a list has no more than the class folders tell, or numbers such as those of folds."""
    if not table.is_list or are_albums(folders.classes()):
        return False
    compared = _compare(folders, table, files, splits)
    if compared.by_table.total() > compared.pairs.total():
        return False
    return compared.is_renaming() or have_numbers_only(compared.names()[1])


def pair_labels(
    folders: ClassFolderLabels, others: FileLabels, files: FileTable
) -> set[tuple[str, str]]:
    """The labels that files have by folders and by another layout."""
    both = zip(folders.facts(files), others.facts(files), strict=True)
    return {
        (by_folder.label, by_other.label)
        for by_folder, by_other in both
        if isinstance(by_folder, FileFacts) and isinstance(by_other, FileFacts)
    }


def _compare(
    folders: ClassFolderLabels, table: TableLabels, files: FileTable, splits: Mapping[str, str]
) -> _Comparison:
    compared = _Comparison()
    rows = zip(files.paths(), folders.facts(files), table.facts(files), strict=True)
    for path, by_folder, by_table in rows:
        if isinstance(by_table, FileFacts):
            compared.by_table[by_table.split or _split_above(path, splits)] += 1
            if isinstance(by_folder, FileFacts):
                compared.pairs[to_nfc(by_folder.label), to_nfc(by_table.label)] += 1
            else:
                compared.table_folders.add(path.rpartition("/")[0])
        elif by_table is SkipReason.UNLABELLED and isinstance(by_folder, FileFacts):
            compared.by_folder[by_folder.split] += 1
    return compared


def _split_above(path: str, splits: Mapping[str, str]) -> str | None:
    """The split of a folder that a file is in."""
    folders = path.split("/")[:-1]
    return next(filter(None, (find_split(folder, splits) for folder in folders)), None)


def _names_of_numbers(compared: _Comparison) -> dict[str, str]:
    """Number in the table -> class folder, where each folder has one; else nothing."""
    folders, numbers = compared.names()
    if not compared.is_renaming() or not have_numbers_only(numbers) or have_numbers_only(folders):
        return {}
    return {number: folder for folder, number in compared.pairs}


def _are_disjoint(compared: _Comparison) -> bool:
    """Whether images that only folders label are of other splits than those of the table."""
    splits = compared.by_folder.keys() | compared.by_table.keys()
    return None not in splits and not compared.by_folder.keys() & compared.by_table.keys()


def _has_swapped(compared: _Comparison) -> bool:
    """Whether the table has the name of a folder for images in another one."""
    folders, labels = compared.names()
    return not have_numbers_only(labels) and any(
        label != folder and label in folders for folder, label in compared.pairs
    )


def _ambiguous(
    folders: ClassFolderLabels, table: TableLabels, problem: str, where: str
) -> AmbiguousLayoutError:
    return AmbiguousLayoutError(
        where,
        problem,
        (
            Reading("pattern", folders.pattern, f"the folders {sample(folders.classes())}"),
            Reading(*table.deciding_key, f"the table's {sample(table.classes())}"),
        ),
    )
