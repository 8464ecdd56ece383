"""What the source lists and stage acquire left out, by reason."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.core.skipped_csv import MEANING, SkippedRow

MAX_NAMES = 20  # of each reason
MAX_NAME_LENGTH = 200  # characters: a name may be an address


@dataclass(frozen=True)
class SkippedItems:
    """Items that were left out for one reason."""

    reason: str
    meaning: str
    count: int
    labels: int
    """Classes that they are of, where the source says so."""
    names: list[str]
    """Of the first."""

    @property
    def more(self) -> int:
        """Items that `names` leaves out."""
        return self.count - len(self.names)


def count_skipped(rows: Iterable[SkippedRow]) -> list[SkippedItems]:
    """The most frequent reason first; equally frequent ones by name."""
    counts: defaultdict[str, int] = defaultdict(int)
    names: defaultdict[str, list[str]] = defaultdict(list)
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        counts[row.reason] += 1
        if row.label:
            labels[row.reason].add(row.label)
        if len(names[row.reason]) < MAX_NAMES:
            names[row.reason].append(row.name[:MAX_NAME_LENGTH])
    return [
        SkippedItems(reason, MEANING.get(reason, ""), count, len(labels[reason]), names[reason])
        for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
