"""How images that `dataset.source` names differ from those that dataset.toml describes."""

from pathlib import Path

from pipeline.stages.acquire import dataset_toml
from pipeline.stages.acquire.dataset_toml import ExternalDataset
from pipeline.stages.acquire.web.download import ExpectedFile


def describe_deviation(source: str, path: Path, folder: Path, dataset: ExternalDataset) -> str:
    """Return a clause, or "" where the source is the one that dataset.toml describes.

    Args:
        source: `dataset.source`: a path or a URL.
        path: The file or folder behind it.
        folder: Of dataset.toml.
    """
    match dataset:
        case dataset_toml.FolderDataset(path=None):
            return ""  # dataset.toml leaves the source to dataset.source
        case dataset_toml.ArchiveDataset(url=str()):
            return _of_archive(source, path, dataset)
        case dataset_toml.FlickrDataset():
            return f"{source} is not the search of dataset.toml"
    assert dataset.path is not None
    if path.resolve() == (folder / dataset.path).resolve():
        return ""
    return f"{source} is not {dataset.path}, which dataset.toml names"


def _of_archive(source: str, path: Path, dataset: dataset_toml.ArchiveDataset) -> str:
    expected = ExpectedFile(dataset.size, dataset.sha256, dataset.md5)
    if path.is_file():
        if difference := expected.find_difference(path):
            return f"{source} {difference}"
        if expected.sha256 or expected.md5:
            return ""
    return f"{source} is not the archive that dataset.toml names"
