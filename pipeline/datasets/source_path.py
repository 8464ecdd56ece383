"""Check the path of a source before anything is read."""

import difflib
from pathlib import Path

from pipeline.core import project
from pipeline.core.addresses import is_address, is_remote, is_url
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import without_password
from pipeline.datasets import dataset_toml
from pipeline.datasets.dataset_toml import LABEL_KEYS, Dataset
from pipeline.params import AS_DESCRIBED


def find_path(text: str) -> Path:
    """The path of an existing file or folder, with ~ expanded.

    Raises:
        PipelineError: it does not exist; the message has the nearest name.
    """
    if not text.strip():
        raise PipelineError("the path is empty: name a folder, an archive or a table")
    path = Path(text).expanduser()
    if path.exists():
        return path
    siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    hint = f" (did you mean {path.parent / close[0]}?)" if close else ""
    # It may be an address without a scheme: bob:password@host
    raise PipelineError(f"{without_password(str(path))} does not exist{hint}")


def check_source(folder: Path, source: str) -> str:
    """The value of `dataset.source`, with ~ expanded.

    Args:
        folder: Of the data set.

    Raises:
        PipelineError: there is no such data set, or no such source, or the data set has no use
            for it.
    """
    dataset = dataset_toml.load(folder)
    if isinstance(dataset, dataset_toml.SampleDataset | dataset_toml.DigitsDataset):
        check_no_source(folder, source)
    if source == AS_DESCRIBED:
        _check_described(folder, dataset)
        return source
    if is_url(source):
        return source
    if is_address(source):
        address = without_password(source)
        raise PipelineError(
            f"dataset.source={address} is for dataset.toml, because DVC would read it itself: make "
            f"a data set of it with `pipeline new NAME {address}`, and with --from-urls before the "
            "address if it is a list of URLs"
        )
    try:
        return str(find_path(source))
    except PipelineError as error:
        raise PipelineError(f"dataset.source: {error}; {_advice(source)}") from error


def _check_described(folder: Path, dataset: Dataset) -> None:
    """Refuse a dataset.toml without a source, with the path of one that is not there, or keys that
    such a source has no use for.
    """
    where = f"{folder}/dataset.toml"
    match dataset:
        case dataset_toml.FlickrDataset():
            dataset_toml.check_unused(dataset, LABEL_KEYS, where, "a search has its own classes")
        case dataset_toml.UrlsDataset():
            keys = ("pattern", "table", "file_column")
            dataset_toml.check_unused(dataset, keys, where, "the labels are in the list of URLs")
    path = getattr(dataset, "path", None)
    if isinstance(dataset, dataset_toml.FolderDataset) and path is None:
        if not dataset_toml.pin_path(folder).exists():
            raise no_source_error(folder)
    elif path and not is_remote(path) and not dataset_toml.copy_path(folder).exists():
        located = folder / path
        if not located.exists() and not any(located.parent.glob(located.name)):
            raise PipelineError(
                f"{folder}/dataset.toml: path = {path!r} does not exist ({located.resolve()}): "
                "correct it, or name another source with -S dataset.source=/absolute/path"
            )


def no_source_error(folder: Path) -> PipelineError:
    """For a data set without a source."""
    return PipelineError(
        f"{folder} does not name a source: set -S dataset.source=/absolute/path, a folder or "
        "archive with one folder per class, or a table with the label of each image or URL"
    )


def check_no_source(folder: Path, source: str) -> None:
    """Refuse a `dataset.source` for a data set that makes its own images."""
    if source != AS_DESCRIBED:
        raise PipelineError(
            f"dataset.source={source} has no meaning for {folder}, which makes its own images: use "
            f"-S dataset.source={AS_DESCRIBED}, or -S dataset.name=images for your own photographs"
        )


def _advice(source: str) -> str:
    if not Path(source).is_absolute() and (project.root() / source).exists():
        return "in the copy that --temp and --queue work in, only an absolute path finds it"
    return (
        f"give a folder, an archive or a table that exists, or {AS_DESCRIBED} for the source in "
        "dataset.toml"
    )
