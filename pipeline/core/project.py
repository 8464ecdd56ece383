"""The project's folders."""

import os
from pathlib import Path

from pipeline.core.errors import PipelineError


def root() -> Path:
    """The original repository, also when DVC runs a stage in a temporary copy of it.

    Source: DVC sets DVC_ROOT for every stage; in `dvc exp run --temp` and queue workers it
    names the original repository while the working directory is a temporary folder.
    """
    folder = os.environ.get("DVC_ROOT")
    return Path(folder) if folder else Path(__file__).resolve().parents[2]


def check() -> None:
    """Refuse to work on a project outside the working directory.

    Raises:
        PipelineError: the working directory is not the project's folder.
    """
    if Path.cwd() != root().resolve():
        raise PipelineError(
            f"this is not the project's folder: run it in {root()}, whose environment is active; "
            "another clone has its own, by `make env`"
        )


def cache() -> Path:
    """The folder for files that outlive failed and repeated runs, as no out of DVC does."""
    return root() / ".cache"
