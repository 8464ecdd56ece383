"""Where the project stands on disk."""

import os
from pathlib import Path

from pipeline.core.errors import PipelineError


def root() -> Path:
    """The original repository, also when DVC runs a stage in a temporary copy of it.

    Source: DVC sets DVC_ROOT for every stage; in `dvc exp run --temp` and queue workers it
    names the original repository while the working directory is a temporary folder.
    """
    named = os.environ.get("DVC_ROOT")
    return Path(named) if named else Path(__file__).resolve().parents[2]


def check() -> None:
    """Refuse to work on another project than the one that somebody stands in.

    Raises:
        PipelineError: the working directory is not the project's folder.
    """
    if Path.cwd() != root().resolve():
        raise PipelineError(
            f"this is not the project's folder: run it in {root()}, whose environment is active; "
            "another clone has its own, by `make env`"
        )


def cache() -> Path:
    """What must survive failed and repeated runs. Never inside an out: DVC deletes those."""
    return root() / ".cache"
