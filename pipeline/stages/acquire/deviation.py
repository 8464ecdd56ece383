"""How images that `dataset.source` names differ from those that dataset.toml describes."""

from pathlib import Path

from pipeline.core.terminal import name_source
from pipeline.datasets import dataset_toml
from pipeline.datasets.dataset_toml import ArchiveDataset, ExternalDataset
from pipeline.stages.acquire.web.download import ExpectedFile


def describe_deviation(source: str, path: Path, folder: Path, dataset: ExternalDataset) -> str:
    """Return a clause, or "" where the source is the one that dataset.toml describes.

    Of paths it has the last part: it is stored with the images and the model, and on pages.

    Args:
        source: `dataset.source`: a path or a URL.
        path: The file or folder behind it.
        folder: Of dataset.toml.
    """
    if isinstance(dataset, dataset_toml.FolderDataset) and dataset.path is None:
        return ""  # dataset.toml leaves the source to dataset.source
    if isinstance(dataset, dataset_toml.FlickrDataset):
        return f"{name_source(source)} is not the search of dataset.toml"
    if isinstance(dataset, ArchiveDataset) and path.is_file():
        expected = expected_file(dataset)
        if difference := expected.find_difference(path):
            return f"{name_source(source)} {difference}"
        if expected.sha256 or expected.md5:
            return ""
    if source in {dataset.path, getattr(dataset, "url", None)}:
        return ""
    if dataset.path is not None and path.resolve() == (folder / dataset.path).resolve():
        return ""
    described = name_source(dataset.path) if dataset.path else "the archive"
    return f"{name_source(source)} is not {described} that dataset.toml names"


def expected_file(dataset: ArchiveDataset) -> ExpectedFile:
    """What dataset.toml pins of an archive."""
    return ExpectedFile(dataset.size, dataset.sha256, dataset.md5)
