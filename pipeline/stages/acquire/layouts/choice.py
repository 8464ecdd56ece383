"""Decide where the labels of a folder or archive come from."""

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.dataset_toml import ExternalDataset
from pipeline.stages.acquire.layouts.folder_labels import ClassFolderLabels, read_folders
from pipeline.stages.acquire.layouts.labels import AmbiguousLayoutError, FileLabels, Reading, sample
from pipeline.stages.acquire.layouts.name_labels import NameLabels, guess_pattern, read_names
from pipeline.stages.acquire.layouts.path_pattern import PathPattern
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
    try:
        folders = read_folders(files, dataset.splits, where)
    except AmbiguousLayoutError:
        raise
    except PipelineError as error:
        names = _guess_names(files, dataset, where)
        if names is None:
            raise PipelineError(f"{where}: {error}") from error
        return names
    if len(folders.classes()) < 2:
        return _guess_names(files, dataset, where) or folders
    _check_names_agree(folders, files, dataset, where)
    return folders


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
