"""Pipes, sockets and devices in a source: DVC opens every file in it, and would wait for ever."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.errors import PipelineError

KINDS = {
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def check_special_files(source: Path) -> None:
    """Refuse a source that is or contains a file that is none.

    Raises:
        PipelineError: there is one; the message names it.
    """
    for path in _find_files(source):
        try:
            kind = KINDS.get(stat.S_IFMT(path.stat().st_mode))
        except OSError:  # a dangling link, or one to a file that may not be read
            continue
        if kind is not None:
            raise PipelineError(
                f"dataset.source: {path} is a {kind} and not a file, and DVC would wait for ever "
                "to read it: take it out of the folder"
            )


def _find_files(source: Path) -> Iterator[Path]:
    """The source, or all but the folders in it; as DVC does, without following links to folders."""
    if not source.is_dir():
        yield source
    for folder, _, names in os.walk(source):
        yield from (Path(folder, name) for name in names)
