"""leaks.csv: images that the source prescribes to one split, and their copies to a later one."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import csv_table


@dataclass(frozen=True, slots=True)
class LeakRow:
    """An image that is not used, and the one in a later split that is used instead."""

    id: str
    """sha256 of the source's bytes, hex."""
    name: str
    label: str
    split: str
    """As the source prescribes: train, val or test."""
    kind: str
    """duplicate, near_duplicate or same_group."""
    stays_id: str
    """The image that stays."""
    stays_name: str
    stays_split: str


def read_leaks(path: Path) -> list[LeakRow]:
    """Read leaks.csv.

    Raises:
        PipelineError: the file is damaged, or of another version.
    """
    return csv_table.read(path, LeakRow)


def write_leaks(path: Path, rows: Iterable[LeakRow]) -> None:
    """Write leaks.csv."""
    csv_table.write(path, LeakRow, rows)
