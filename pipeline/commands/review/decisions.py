"""Append a person's decisions to reject.csv and relabel.csv of a data set.

People edit these files too: whatever is in them stays as it is, byte by byte.
"""

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from pipeline.core import project
from pipeline.core.errors import PipelineError
from pipeline.images import hand_lists
from pipeline.images.hand_lists import COLUMNS, REJECT_CSV, RELABEL_CSV

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Decisions:
    """The decisions of a person on images, by id."""

    rejects: Mapping[str, str] = field(default_factory=dict)
    """Why each is rejected."""
    labels: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """The class of each, and why; an image's own class confirms its label."""


@dataclass(frozen=True)
class LineCounts:
    """How many lines were appended to each file."""

    rejects: int
    labels: int

    def __add__(self, other: "LineCounts") -> "LineCounts":
        return LineCounts(self.rejects + other.rejects, self.labels + other.labels)


def append(folder: Path, decisions: Decisions) -> LineCounts:
    """Append a line for each decision that the files do not have yet.

    Raises:
        PipelineError: a file is malformed, or cannot be written.
    """
    project.cache().mkdir(exist_ok=True)
    with FileLock(project.cache() / "hand_lists.lock"):  # another review may append too
        rejects, corrections = read(folder)
        new_rejects = [row for row in decisions.rejects.items() if row[0] not in rejects]
        new_labels = [
            (key, label, why)
            for key, (label, why) in decisions.labels.items()
            if corrections.get(key) != label
        ]
        append_rows(folder / REJECT_CSV, new_rejects)
        append_rows(folder / RELABEL_CSV, new_labels)
    return LineCounts(len(new_rejects), len(new_labels))


def read(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The reasons of rejected images, and the labels of relabelled ones, by id.

    Raises:
        PipelineError: a file is malformed.
    """
    corrections = hand_lists.read_corrections(folder)
    labels = {key: correction.label for key, correction in corrections.items()}
    return hand_lists.read_rejects(folder), labels


def append_rows(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """Append rows to one of the lists, all or none, and wait until they are on disk.

    Raises:
        PipelineError: the rows cannot be written, as on a full disk.
    """
    if not rows:
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        data = (_joint(path) + hand_lists.format_rows(rows)).encode()
        try:
            _write(descriptor, data)
        except OSError as error:
            os.ftruncate(descriptor, size)
            is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            advice = "make room on the disk, and try again" if is_full else error.strerror
            raise PipelineError(f"{path} cannot be written: {advice}") from error
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    """Write, in one call if the disk has room, so that no other program's line comes between."""
    while data:
        data = data[os.write(descriptor, data) :]
    os.fsync(descriptor)


def _joint(path: Path) -> str:
    """What stands between the content of a file and new rows."""
    content = path.read_bytes().removeprefix(BYTE_ORDER_MARK)
    if not content.strip(b"\r\n"):
        return hand_lists.format_rows([COLUMNS[path.name]])
    return "" if content.endswith((b"\n", b"\r")) else "\n"
