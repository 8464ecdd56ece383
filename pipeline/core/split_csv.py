"""split.csv: the split of each image that is used, sorted by id."""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from pipeline.core import csv_table


@dataclass(frozen=True, slots=True)
class SplitRow:
    """An image that is used."""

    id: str
    """sha256 of the source's bytes, hex."""
    label: str
    split: str
    """train, val or test."""
    group: str
    """The name of the images that share its split; empty where it is on its own."""


def read_split(path: Path) -> list[SplitRow]:
    """Read split.csv, in its order.

    Raises:
        PipelineError: the file is damaged, or of another version.
    """
    return csv_table.read(path, SplitRow)


def write_split(path: Path, rows: Iterable[SplitRow]) -> None:
    """Write split.csv, sorted by id."""
    csv_table.write(path, SplitRow, sorted(rows, key=attrgetter("id")))
