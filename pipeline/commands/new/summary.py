"""Say what was understood of a source."""

from collections import Counter
from itertools import islice

from pipeline.core.errors import format_counts
from pipeline.core.shards import SPLITS
from pipeline.core.terminal import print_line, print_table
from pipeline.stages.acquire.sources.contents import Contents

MAX_CLASSES = 20
MAX_NAMES = 10


def print_contents(contents: Contents) -> None:
    """Print classes with their counts and splits, where the labels come from, and some names."""
    counts = contents.count()
    print_counts(counts)
    print_line(f"labels: from {contents.origin}")
    for note in contents.notes:
        print_line(f"note: {note}")
    if reasons := contents.left_out():
        print_line(f"left out: {format_counts(reasons)}")
    for name in islice(contents.names(), MAX_NAMES):
        print_line(f"  {name}")


def print_counts(counts: Counter[tuple[str, str | None]]) -> None:
    """Print the images of each class and split."""
    by_class: Counter[str] = Counter()
    for (label, _), count in counts.items():
        by_class[label] += count
    print_line(f"{counts.total()} images of {len(by_class)} classes")
    splits = [split for split in SPLITS if any(key == split for _, key in counts)]
    without = [None] if splits and any(key is None for _, key in counts) else []
    rows = [
        [label, str(count), *(str(counts[label, split]) for split in [*splits, *without])]
        for label, count in sorted(by_class.items())[:MAX_CLASSES]
    ]
    header = ["class", "images", *splits, *(["no split"] if without else [])]
    print_table(header, rows, numbers=True)
    if len(by_class) > MAX_CLASSES:
        print_line(f"and {len(by_class) - MAX_CLASSES} more classes")
    if not splits:
        print_line("splits: none; split assigns them")
