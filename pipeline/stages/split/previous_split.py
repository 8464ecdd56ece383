"""The split of the last run: images keep theirs, and moves are reported."""

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.core import atomic, columns, dvc_lock, project, source_code
from pipeline.core.plurals import plural
from pipeline.core.shards import SPLITS
from pipeline.core.split_csv import scan_readable_splits
from pipeline.core.terminal import print_line
from pipeline.params import DatasetParams, SplitParams
from pipeline.stages.split.assignment.images import Image, Images, Ranks, split_name, split_ranks

# The code that assigns groups to splits; dvc.yaml lists each, so dvc.lock has its digest.
ASSIGNMENT_CODE = ("pipeline/core/stable_hash.py", "pipeline/stages/split/assignment")
MOVES_COLUMNS = ("id", "label", "before", "now")


def read_previous(split_csv: Path, images: Images) -> Ranks:
    """Read the split of each image in the last run, which DVC leaves in place (persist).

    The rows before any damage count, too.
    """
    pairs = (pair for pair in scan_readable_splits(split_csv) if pair[1] in SPLITS)
    ids, splits = [columns.texts([])], [np.zeros(0, np.int8)]
    while chunk := list(islice(pairs, columns.CHUNK)):
        ids.append(columns.texts([key for key, _ in chunk]))
        splits.append(split_ranks(columns.texts([name for _, name in chunk])))
    rows = columns.positions(images.ids, pa.chunked_array(ids))
    return np.append(np.concatenate(splits), np.int8(-1))[rows]  # the last for images it lacks


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
    ignored = {"leaks", "incomplete_classes"}
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


def report_moves(previous: Ranks, images: Images, splits: Ranks) -> None:
    """Count the images that changed their split since the last run; list them in moves.csv.

    Args:
        previous: The split of each image in the last run.
    """
    moved = np.flatnonzero((previous >= 0) & (previous != splits)).tolist()
    moves = (_describe_move(images.image(row), previous[row], splits[row]) for row in moved)
    path = project.cache() / "split" / "moves.csv"
    atomic.write_csv(path, MOVES_COLUMNS, moves)
    if moved:
        pairs = zip(previous[moved].tolist(), splits[moved].tolist(), strict=True)
        counts = Counter(f"{SPLITS[before]} to {_name(now)}" for before, now in pairs)
        summary = ", ".join(f"{count} {move}" for move, count in sorted(counts.items()))
        images_moved = plural(len(moved), "image moved", "images moved")
        print_line(f"split: {images_moved} since the last run ({summary}); see {path}")


def _describe_move(image: Image, before: int, now: int) -> tuple[str, ...]:
    return image.id, image.label, SPLITS[before], _name(now)


def _name(rank: int) -> str:
    return split_name(rank) or "left out"
