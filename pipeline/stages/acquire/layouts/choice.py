"""Decide where the labels of a folder or archive come from."""

from collections.abc import Sequence

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.dataset_toml import ExternalDataset
from pipeline.stages.acquire.layouts.folder_labels import ClassFolderLabels, read_folders
from pipeline.stages.acquire.layouts.labels import (
    AmbiguousLayoutError,
    FileFacts,
    FileLabels,
    Reading,
    sample,
)
from pipeline.stages.acquire.layouts.name_labels import NameLabels, guess_pattern, read_names
from pipeline.stages.acquire.layouts.path_pattern import PathPattern
from pipeline.stages.acquire.layouts.sidecar_labels import find_sidecars
from pipeline.stages.acquire.layouts.table_labels import TableLabels
from pipeline.stages.acquire.layouts.tables import find_labels
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources.listing import FileTable


def choose_labels(files: FileTable, dataset: ExternalDataset, where: str) -> FileLabels:
    """The labels of files: as dataset.toml says, or else by the only layout that fits.

    Raises:
        PipelineError: none fits, or the one of dataset.toml does not.
        AmbiguousLayoutError: two fit, or one in two ways.
    """
    if dataset.pattern:
        return read_names(PathPattern(dataset.pattern), files, dataset.splits, where)
    sidecars = find_sidecars(files, dataset, where) if not dataset.table else None
    if sidecars is not None:
        return sidecars
    search = find_labels(files, dataset, where)
    if search.labels is not None and (dataset.table or dataset.label_column):
        return search.labels
    try:
        folders = read_folders(files, dataset.splits, where)
    except AmbiguousLayoutError:
        raise
    except PipelineError as error:
        labels = search.labels or _guess_names(files, dataset, where)
        if labels is None:
            raise PipelineError(f"{where}: {error}{_mention(search.problems)}") from error
        return labels
    if len(folders.classes()) < 2:
        return search.labels or _guess_names(files, dataset, where) or folders
    if search.labels is not None:
        _check_table_agrees(folders, search.labels, files, where)
        return search.labels
    _check_names_agree(folders, files, dataset, where)
    return folders


def _mention(problems: Sequence[str]) -> str:
    """What is wrong with the tables that are there."""
    if not problems:
        return ""
    return f"; {problems[0]}: say with label_column and file_column what they are"


def _check_table_agrees(
    folders: ClassFolderLabels, table: TableLabels, files: FileTable, where: str
) -> None:
    """Refuse a table whose labels are not those of the class folders under other names."""
    pairs = set()
    for by_folder, by_table in zip(folders.facts(files), table.facts(files), strict=True):
        if isinstance(by_folder, FileFacts) and isinstance(by_table, FileFacts):
            pairs.add((by_folder.label, by_table.label))
    names = {label for label, _ in pairs}, {label for _, label in pairs}
    if max(map(len, names)) == len(pairs):  # they match one to one, or one set refines the other
        return
    raise AmbiguousLayoutError(
        where,
        f"its folders and {table.origin} tell different classes",
        (
            Reading("pattern", "{label}/*", f"the folders {sample(names[0])}"),
            Reading("label_column", table.label_column, f"the table's {sample(names[1])}"),
        ),
    )


def _guess_names(files: FileTable, dataset: ExternalDataset, where: str) -> NameLabels | None:
    pattern = guess_pattern(files, where)
    return read_names(pattern, files, dataset.splits, where) if pattern else None


def _check_names_agree(
    folders: ClassFolderLabels, files: FileTable, dataset: ExternalDataset, where: str
) -> None:
    """Refuse class folders each with files named after several other classes."""
    try:
        names = _guess_names(files, dataset, where)
    except AmbiguousLayoutError:
        return  # the names say less than the folders
    if names is None or not _cross(folders, names, files):
        return
    raise AmbiguousLayoutError(
        where,
        "its folders and the names of its files tell different classes",
        (
            Reading("pattern", "{label}/*", f"the folders {sample(folders.classes())}"),
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
