"""A machine with a disk of its own, for processes with this folder in PYTHONPATH.

They do not see the files by which a machine knows a project; stages that run there note their
commands in $BLIND_LOG.
"""

import os
import sys
from pathlib import Path
from typing import Any

_read_text = Path.read_text


def _read_text_or_miss(path: Path, *arguments: Any, **options: Any) -> str:
    if path.parent.name == "tokens":
        raise FileNotFoundError(path)
    return _read_text(path, *arguments, **options)


if __name__ == "sitecustomize":
    Path.read_text = _read_text_or_miss  # type: ignore[assignment,method-assign]
    if sys.orig_argv[1:2] == ["-m"] and sys.orig_argv[2].startswith("pipeline.stages."):
        with Path(os.environ["BLIND_LOG"]).open("a") as file:
            file.write(" ".join(sys.orig_argv[2:]) + "\n")
