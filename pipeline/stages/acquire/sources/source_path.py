"""Check the path of a source before anything is read."""

import difflib
from pathlib import Path

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
        PipelineError: there is no such data set, or no such source.
    """
    dataset_toml.load(folder)
    if source == AS_DESCRIBED or source.startswith(URLS):
        return source
    return str(find_path(source))
