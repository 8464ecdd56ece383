"""The split of the last run: images keep theirs, and moves are reported."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.core import atomic, dvc_lock, project, source_code
from pipeline.core.shards import SPLITS
from pipeline.core.terminal import print_line
from pipeline.params import DatasetParams, SplitParams
from pipeline.stages.split.images import Image

# The code that assigns groups to splits; dvc.yaml lists each file, so dvc.lock has its digest.
ASSIGNMENT_CODE = (
    "pipeline/core/stable_hash.py",
    "pipeline/stages/split/assignment.py",
    "pipeline/stages/split/groups.py",
    "pipeline/stages/split/images.py",
)
MOVES_COLUMNS = ("id", "label", "before", "now")


def read_previous(split_csv: Path) -> dict[str, str]:
    """Read the split of each id in the last run, which DVC leaves in place (persist).

    Unlike `read_split`, skip what cannot be read: the rows before the damage still count.
    """
    try:
        rows = atomic.read_csv(split_csv)
        return {row["id"]: row["split"] for row in rows if row["split"] in SPLITS}
    except (FileNotFoundError, KeyError, UnicodeDecodeError, csv.Error):
        return {}


def has_same_params_and_code(params: SplitParams) -> bool:
    """Whether the last run assigned with the same params and code, according to dvc.lock.

    Otherwise the last split must not count: with a new seed, the groups that it put into test
    would stay there too often.
    """
    lock = dvc_lock.read()
    root = source_code.PACKAGE.parent
    if not all(dvc_lock.ran_with(lock, "split", path, root / path) for path in ASSIGNMENT_CODE):
        return False
    last = dvc_lock.params(lock, "split").get("split")
    ignored = {"leaks"}
    return isinstance(last, dict) and {
        key: value for key, value in last.items() if key not in ignored
    } == params.model_dump(exclude=ignored)


def is_valid(dataset: DatasetParams, params: SplitParams) -> bool:
    """Whether the last split counts: of the same data set, by the same params and code."""
    return is_of_dataset(dataset.name) and has_same_params_and_code(params)


def is_of_dataset(name: str) -> bool:
    """Whether the last run split this data set, according to dvc.lock.

    Another data set may have the same images and prescribe other splits.
    """
    last = dvc_lock.params(dvc_lock.read(), "split").get("dataset")
    return isinstance(last, dict) and last.get("name") == name


def report_moves(
    previous: Mapping[str, str], images: Sequence[Image], splits: Sequence[str | None]
) -> None:
    """Count the images that changed their split since the last run; list them in moves.csv."""
    moves = [
        (image.id, image.label, previous[image.id], split or "left out")
        for image, split in zip(images, splits, strict=True)
        if previous.get(image.id, split) != split
    ]
    path = project.cache() / "split" / "moves.csv"
    atomic.write_csv(path, MOVES_COLUMNS, moves)
    if moves:
        counts = Counter(f"{before} to {now}" for *_, before, now in moves)
        summary = ", ".join(f"{count} {move}" for move, count in sorted(counts.items()))
        print_line(f"split: {len(moves)} images moved since the last run ({summary}); see {path}")
