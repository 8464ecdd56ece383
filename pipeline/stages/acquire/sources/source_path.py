"""Check the path of a source before anything is read."""

import difflib
from pathlib import Path

from pipeline.core import project
from pipeline.core.errors import PipelineError
from pipeline.params import AS_DESCRIBED
from pipeline.stages.acquire import dataset_toml

URLS = ("http://", "https://")


def find_path(text: str) -> Path:
    """The path of an existing file or folder, with ~ expanded.

    Raises:
        PipelineError: it does not exist; the message has the nearest name.
    """
    path = Path(text).expanduser()
    if path.exists():
        return path
    siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    hint = f" (did you mean {path.parent / close[0]}?)" if close else ""
    raise PipelineError(f"{path} does not exist{hint}")


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
    if source == AS_DESCRIBED or source.startswith(URLS):
        return source
    try:
        return str(find_path(source))
    except PipelineError as error:
        raise PipelineError(f"dataset.source: {error}; {_advice(source)}") from error


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
