"""Decide where the labels of a folder or archive come from."""

import re
from collections.abc import Collection
from pathlib import PurePath

from pipeline.core.errors import PipelineError
from pipeline.core.unicode import to_nfc
from pipeline.datasets.dataset_toml import TABLE_KEYS, ExternalDataset, check_unused
from pipeline.datasets.path_pattern import PathPattern
from pipeline.stages.acquire.layouts.album_folders import are_albums, check_albums
from pipeline.stages.acquire.layouts.file_names import (
    ARCHIVE_SUFFIXES,
    PACKED_SUFFIXES,
    TABLE_SUFFIXES,
    is_image_name,
)
from pipeline.stages.acquire.layouts.folder_agreement import (
    TableWithFolders,
    choose_table_or_folders,
    pair_labels,
    repeats_folders,
)
from pipeline.stages.acquire.layouts.folder_labels import ClassFolderLabels, read_folders
from pipeline.stages.acquire.layouts.folder_levels import check_levels, check_split_names
from pipeline.stages.acquire.layouts.labels import (
    AmbiguousLayoutError,
    FileLabels,
    Reading,
    sample,
)
from pipeline.stages.acquire.layouts.masks import check_masks
from pipeline.stages.acquire.layouts.name_labels import NameLabels, guess_pattern, read_names
from pipeline.stages.acquire.layouts.sidecar_labels import SidecarLabels, find_sidecars
from pipeline.stages.acquire.layouts.split_labels import add_splits
from pipeline.stages.acquire.layouts.table_labels import TableLabels
from pipeline.stages.acquire.layouts.tables import TableSearch, find_labels
from pipeline.stages.acquire.layouts.unread_tables import describe_unread
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources.class_folders import is_hidden
from pipeline.stages.acquire.sources.listing import FileTable


def choose_labels(files: FileTable, dataset: ExternalDataset, where: str) -> FileLabels:
    """The labels of files: as dataset.toml says, or else by the only layout that fits.

    Raises:
        PipelineError: none fits, the one of dataset.toml does not, or a key there has no effect.
        AmbiguousLayoutError: two fit, or one in two ways.
    """
    labels = _choose_labels(files, dataset, where)
    unused = set(TABLE_KEYS)
    if isinstance(labels, TableLabels | TableWithFolders):
        unused = set() if labels.has_texts else {"encoding"}
    elif isinstance(labels, SidecarLabels):
        unused = {"encoding"}
    if files.uses_encoding:
        unused.discard("encoding")
    check_unused(dataset, sorted(unused), where, f"the labels come from {labels.origin}")
    return add_splits(labels, files, dataset.splits)


def _choose_labels(files: FileTable, dataset: ExternalDataset, where: str) -> FileLabels:
    if dataset.pattern:
        return read_names(PathPattern(dataset.pattern), files, dataset.splits, where)
    beside = find_sidecars(files, dataset, where)
    if beside.labels is not None:
        return _sidecars_or_folders(beside.labels, files, dataset, where)
    search = find_labels(files, dataset, where)
    if search.labels is not None and (dataset.table or dataset.label_column or dataset.file_column):
        return search.labels
    try:
        folders = read_folders(files, dataset.splits, where)
    except AmbiguousLayoutError:
        raise
    except PipelineError as error:
        problem = "; ".join([str(error), *beside.problems[:1]])
        return _labels_without_folders(search, files, dataset, where, problem)
    if search.repeated and not _has_classes(folders, search.repeated.classes):
        raise search.repeated
    if len(folders.classes()) < 2:
        problem = f"all images are in the folder {min(folders.classes())!r}"
        problem = "; ".join([problem, *beside.problems[:1]])
        if search.labels or search.problems or beside.problems or describe_unread(files):
            return _labels_without_folders(search, files, dataset, where, problem)
        return _guess_names(files, dataset, where) or folders
    if search.labels is not None and not _is_weaker(search.labels, folders, files, dataset):
        return choose_table_or_folders(folders, search.labels, files, dataset.splits, where)
    folders = _note_unused(folders, search.labels)
    check_masks(folders.folders, files, where)
    _check_names_agree(folders, files, dataset, where)
    check_levels(folders.folders, folders.counts, dataset.splits, where)
    check_split_names(folders.folders, dataset.splits, where)
    check_albums(folders.folders, where)
    return folders.describe(dataset.splits)


def _sidecars_or_folders(
    sidecars: SidecarLabels, files: FileTable, dataset: ExternalDataset, where: str
) -> FileLabels:
    """The labels beside the images, unless the class folders have names for the same classes.

    Raises:
        AmbiguousLayoutError: the two tell different classes.
    """
    if dataset.table or dataset.label_column:
        return sidecars
    try:
        folders = read_folders(files, dataset.splits, where)
    except PipelineError:
        return sidecars
    if len({re.sub("[0-9]+", "#", name) for name in folders.classes()}) < 2:
        return sidecars  # one folder, or shards: pets-000000, pets-000001
    if are_albums(folders.classes()):
        return sidecars
    if len(sidecars.classes()) < 2:
        return folders
    pairs = pair_labels(folders, sidecars, files)
    names = {label for label, _ in pairs}, {label for _, label in pairs}
    if len(names[0]) == len(names[1]) == len(pairs) and sidecars.are_numbers():
        return folders
    if max(map(len, names)) == len(pairs):
        return sidecars
    raise AmbiguousLayoutError(
        where,
        f"its folders and {sidecars.origin} tell different classes",
        (
            Reading("pattern", folders.pattern, f"the folders {sample(names[0])}"),
            Reading("table", f"*{sidecars.suffix}", f"the files' {sample(names[1])}"),
        ),
    )


def _labels_without_folders(
    search: TableSearch, files: FileTable, dataset: ExternalDataset, where: str, problem: str
) -> FileLabels:
    if search.repeated:
        raise search.repeated
    labels = search.labels or _guess_names(files, dataset, where)
    if labels is not None:
        return labels
    _check_archives(files, where)
    advice = [*search.problems[:1], *filter(None, [describe_unread(files)])]
    raise PipelineError(f"{where}: {'; '.join([problem, *advice])}")


def _check_archives(files: FileTable, where: str) -> None:
    """Refuse archives without images beside them.

    Raises:
        PipelineError: there are such.
    """
    names = [name for name in files.names() if not is_hidden(name)]
    archives = [name for name in names if name.lower().endswith(ARCHIVE_SUFFIXES + PACKED_SUFFIXES)]
    if not archives or any(is_image_name(name) for name in names if name not in archives):
        return
    advice = "unpack them there, or give an archive with everything in it"
    suffix = next((end for end in ARCHIVE_SUFFIXES if archives[0].endswith(end)), None)
    is_alike = suffix and all("/" not in name and name.endswith(suffix) for name in archives)
    if (
        is_alike
        and files.folder
        and not any(PurePath(name).suffix in TABLE_SUFFIXES for name in names)
    ):
        source = f"{where}/*{suffix}" if archives[1:] else f"{where}/{archives[0]}"
        advice = f"give {source!r} as the source, or unpack them"
    raise PipelineError(f"{where}: it has no images, but archives, such as {archives[0]}: {advice}")


def _is_weaker(
    table: TableLabels, folders: ClassFolderLabels, files: FileTable, dataset: ExternalDataset
) -> bool:
    """Whether class folders count, and not a table beside them."""
    return table.is_weak or repeats_folders(folders, table, files, dataset.splits)


def _note_unused(folders: ClassFolderLabels, table: TableLabels | None) -> ClassFolderLabels:
    """Say that a table beside class folders is not used, if there is one."""
    if table is None:
        return folders
    key = table.deciding_key[0]
    note = f"{table.origin} is not used beside class folders, unless {key} names it"
    return folders.with_notes(note)


def _has_classes(folders: ClassFolderLabels, classes: Collection[str]) -> bool:
    """Whether all classes of a table are those of folders."""
    names = {to_nfc(name).casefold() for name in folders.classes()}
    return all(to_nfc(name).casefold() in names for name in classes if name)


def _guess_names(files: FileTable, dataset: ExternalDataset, where: str) -> NameLabels | None:
    pattern = guess_pattern(files, dataset.splits, where)
    return read_names(pattern, files, dataset.splits, where) if pattern else None


def _check_names_agree(
    folders: ClassFolderLabels, files: FileTable, dataset: ExternalDataset, where: str
) -> None:
    """Refuse class folders each with files named after several other classes."""
    try:
        names = _guess_names(files, dataset, where)
    except PipelineError:
        return  # the names say less than the folders
    if names is None or not _cross(folders, names, files):
        return
    raise AmbiguousLayoutError(
        where,
        "its folders and the names of its files tell different classes",
        (
            Reading("pattern", folders.pattern, f"the folders {sample(folders.classes())}"),
            Reading("pattern", names.pattern, f"the names {sample(names.classes())}"),
        ),
    )


def _cross(folders: ClassFolderLabels, names: NameLabels, files: FileTable) -> bool:
    """Whether a folder has several classes by name, and each class by name is in several."""
    folders_of: dict[str, set[str]] = {}
    names_of: dict[str, set[str]] = {}
    for by_folder, by_name in zip(folders.facts(files), names.facts(files), strict=True):
        if not isinstance(by_folder, SkipReason) and not isinstance(by_name, SkipReason):
            folders_of.setdefault(by_name.label, set()).add(by_folder.label)
            names_of.setdefault(by_folder.label, set()).add(by_name.label)
    return all(len(labels) > 1 for labels in (*folders_of.values(), *names_of.values()))
