"""What an export needs before it starts: a new destination, and a split."""

from pathlib import Path

from pipeline.core.errors import PipelineError


def require_new(destination: Path) -> None:
    """Refuse a destination that has something in it.

    Raises:
        PipelineError: it is a file, or a folder with files.
    """
    if destination.is_file() or (destination.is_dir() and any(destination.iterdir())):
        raise PipelineError(f"{destination} is not empty: name a new folder")


def require_split(split_csv: Path) -> None:
    """Refuse to export images before they are split.

    Raises:
        PipelineError: stage split has not run.
    """
    if not split_csv.exists():
        raise PipelineError(f"{split_csv} is missing: run `dvc repro` first")
