"""Stage split: assign every clean image to train, val or test."""

from collections import Counter
from pathlib import Path

import numpy as np

from pipeline.core import stage
from pipeline.core.shards import SPLITS
from pipeline.core.split_csv import write_split
from pipeline.core.terminal import print_line
from pipeline.core.verdicts_csv import scan_verdicts
from pipeline.params import SplitParams, load_params
from pipeline.stages.split import previous_split
from pipeline.stages.split.assignment.images import Images, read_images
from pipeline.stages.split.assignment.modes import assign, split_rows
from pipeline.stages.split.class_checks import check_classes
from pipeline.stages.split.leaks import find_leaks, handle_leaks, keep_leaks


def _describe_ignored(images: Images, params: SplitParams) -> str:
    """Which params are ignored, because the source prescribes what they would decide."""
    prescribed = [
        name
        for rank, name in enumerate(SPLITS)
        if name != "train" and params.prescribed and (images.splits == rank).any()
    ]
    if not prescribed:
        return ""
    ignored = " and ".join(f"split.{name}" for name in prescribed)
    verb = "is" if len(prescribed) == 1 else "are"
    names = " and ".join(prescribed)
    return f"; the source prescribes {names}, so {ignored} {verb} ignored"


def main(
    clean: Path,
    verdicts_csv: Path,
    split_csv: Path,
    leaks_csv: Path,
) -> None:
    """Assign the images of CLEAN to train, val and test, and write SPLIT_CSV.

    Where the source prescribes splits, copies across them are written to LEAKS_CSV.
    """
    dataset, params = load_params().dataset, load_params().split
    images, groups = read_images(clean)
    leaks = find_leaks(groups, images, scan_verdicts(verdicts_csv), params)
    handle_leaks(leaks, params, leaks_csv)
    previous = previous_split.read_previous(split_csv, images)
    is_valid = previous_split.is_valid(dataset, params)
    splits = assign(groups, images, params, previous if is_valid else np.full_like(previous, -1))
    splits = keep_leaks(splits, images, params)
    check_classes(images, splits, params)
    previous_split.report_moves(previous, images, splits)
    write_split(split_csv, split_rows(groups, images, splits, params.seed))
    counts = Counter(splits.tolist())
    listed = ", ".join(f"{counts[rank]} {name}" for rank, name in enumerate(SPLITS))
    print_line(f"split: {listed}{_describe_ignored(images, params)}")


if __name__ == "__main__":
    stage.run(main)
