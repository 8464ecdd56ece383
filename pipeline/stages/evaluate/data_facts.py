"""What the report says of the images of all splits."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from pipeline.core import shards
from pipeline.core.columns import Column
from pipeline.core.shards import SPLITS
from pipeline.core.split_csv import scan_split


@dataclass(frozen=True)
class DataFacts:
    """The images of all splits."""

    counts: Mapping[str, Mapping[str, int]]
    """By class, of those in the tables, then by split."""
    licences: Mapping[str, int]
    """Images by licence, the most frequent first."""
    owners: Sequence[tuple[str, int]]
    """Names and numbers of images, by name; images without an owner are left out."""
    splits: Sequence[str] = SPLITS


def read_data_facts(classes: Sequence[str], clean: Path, split_csv: Path) -> DataFacts:
    """The facts of the images in split.csv; counts are of some classes."""
    counts = {name: Counter[str]() for name in classes}
    for row in scan_split(split_csv):
        if row.label in counts:
            counts[row.label][row.split] += 1
    facts = shards.columns(clean, ["licence", "owner"])
    licences = _count_images(facts.column("licence"), "none stated")
    owners = _count_images(facts.column("owner"), "")
    owned = sorted((owner, count) for owner, count in owners.items() if owner)
    return DataFacts(counts, dict(licences.most_common()), owned)


def _count_images(texts: Column, empty: str) -> Counter[str]:
    """The images with each text, in the order of their first images; `empty` for none."""
    counts = Counter[str]()
    for row in pc.value_counts(texts).to_pylist():  # of the distinct texts
        counts[row["values"] or empty] += row["counts"]
    return counts
