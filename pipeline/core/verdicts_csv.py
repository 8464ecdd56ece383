"""verdicts.csv: whether each raw image is kept, and why not, in the order of the raw images."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import csv_table

KEEP, REJECT = "keep", "reject"


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """The verdict on a raw image."""

    id: str
    """sha256 of the source's bytes, hex: copies share it."""
    name: str
    """As the source called it."""
    label: str
    """By relabel.csv if it lists the image, otherwise by the source."""
    split: str
    """The split that the source prescribes, or empty."""
    verdict: str
    """keep or reject."""
    reason: str
    """A `RejectReason`, or empty where the image is kept."""
    warnings: str
    """`Warn`s, with a space between two."""
    near_group: str
    """The smallest id of its group of near-duplicates, or empty."""
    source_label: str = ""
    """The source's label, where relabel.csv gives another; otherwise empty."""

    @property
    def is_kept(self) -> bool:
        return self.verdict == KEEP


def scan_verdicts(path: Path) -> Iterator[VerdictRow]:
    """Read verdicts.csv in its order, row by row, in constant memory.

    Raises:
        PipelineError: the file is damaged, or of another version.
    """
    return csv_table.scan(path, VerdictRow)


def write_verdicts(path: Path, rows: Iterable[VerdictRow]) -> None:
    """Write verdicts.csv."""
    csv_table.write(path, VerdictRow, rows)
