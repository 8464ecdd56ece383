"""Stage split: who trains, who validates, who tests.

A group's place is a salted hash of its owner, or of its image's id, so by share adding images moves
none that was there, but where a new one joins two groups. Shares hold in expectation.
"""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from pipeline.core import stage
from pipeline.core.shards import SPLITS
from pipeline.core.split_csv import write_split
from pipeline.core.verdicts_csv import read_verdicts
from pipeline.params import load_params
from pipeline.stages.split import leaks, previous_split
from pipeline.stages.split.assignment import assign, check, split_rows
from pipeline.stages.split.images import read_images


def main(
    clean: Path,
    verdicts_csv: Annotated[Path, typer.Argument(metavar="VERDICTS")],
    split_csv: Annotated[Path, typer.Argument(metavar="SPLIT")],
    leaks_csv: Annotated[Path, typer.Argument(metavar="LEAKS")],
) -> None:
    """Deal the images of CLEAN to train, val and test, and write SPLIT.

    What the source puts in several splits, by VERDICTS and by likeness, is written to LEAKS.
    """
    params = load_params().split
    images, found = read_images(clean)
    verdicts = read_verdicts(verdicts_csv)
    leaking = leaks.find(found, images, verdicts) if params.prescribed else []
    leaks.gate(leaking, params, leaks_csv)
    before = previous_split.read_before(split_csv)
    held = before if previous_split.dealt_alike(params) else {}
    rows = {row: held[image.id] for row, image in enumerate(images) if image.id in held}
    splits = assign(found, images, params, rows)
    check([image.label for image in images], splits)
    previous_split.report(before, images, splits)
    write_split(split_csv, split_rows(found, images, splits, params.seed))
    counts = Counter(splits)
    print("split: " + ", ".join(f"{counts[name]} {name}" for name in SPLITS))


if __name__ == "__main__":
    stage.run(main)
