"""Which images changed their split since the last run, and what that run had dealt by."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.core import atomic, dvc_lock, project, source_code
from pipeline.core.shards import SPLITS
from pipeline.params import SplitParams
from pipeline.stages.split.images import Image

# The code that decides where a group goes; dvc.yaml lists each file, so dvc.lock has its digest.
DEALERS = (
    "pipeline/core/stable_hash.py",
    "pipeline/stages/split/assignment.py",
    "pipeline/stages/split/groups.py",
    "pipeline/stages/split/images.py",
)
COLUMNS = ("id", "label", "before", "now")


def read_before(split_csv: Path) -> dict[str, str]:
    """The split of each id in the last run, which DVC keeps in place for this (persist)."""
    try:
        rows = atomic.read_csv(split_csv)
        return {row["id"]: row["split"] for row in rows if row["split"] in SPLITS}
    except (FileNotFoundError, KeyError, UnicodeDecodeError, csv.Error):
        return {}


def dealt_alike(params: SplitParams) -> bool:
    """Whether the last run dealt by the same params and the same code, as dvc.lock has them.

    Otherwise a group that stays where it was would, with a new seed, go on testing too often.
    """
    lock = dvc_lock.read()
    package = source_code.PACKAGE.parent
    if not all(dvc_lock.ran_with(lock, "split", path, package / path) for path in DEALERS):
        return False
    last = dvc_lock.params(lock, "split").get("split")
    ignored = {"leaks"}
    return isinstance(last, dict) and {
        key: value for key, value in last.items() if key not in ignored
    } == params.model_dump(exclude=ignored)


def report(
    before: Mapping[str, str], images: Sequence[Image], splits: Sequence[str | None]
) -> None:
    """Tell which images are in another split than in the last run; the full list is in .cache."""
    moved = [
        (image.id, image.label, before[image.id], split or "left out")
        for image, split in zip(images, splits, strict=True)
        if before.get(image.id, split) != split
    ]
    path = project.cache() / "split" / "moves.csv"
    atomic.write_csv(path, COLUMNS, moved)
    if moved:
        ways = Counter(f"{was} to {now}" for *_, was, now in moved)
        told = ", ".join(f"{count} {way}" for way, count in sorted(ways.items()))
        print(f"split: {len(moved)} images moved since the last run ({told}); see {path}")
