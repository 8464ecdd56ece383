"""Stage acquire: fetch the images of a data set and write them to raw shards."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from pipeline.core import atomic, shards, stage
from pipeline.core.errors import format_counts
from pipeline.core.terminal import print_line
from pipeline.params import load_params
from pipeline.stages.acquire.raw_image import SKIPPED_COLUMNS, SkippedItem
from pipeline.stages.acquire.sources.dispatch import acquire_images


def main(
    folder: Annotated[Path, typer.Argument(metavar="DATASET")],
    source: Annotated[str, typer.Argument()],
    raw: Annotated[Path, typer.Argument()],
    skipped_csv: Annotated[Path, typer.Argument(metavar="SKIPPED")],
) -> None:
    """Fetch the images that DATASET/dataset.toml describes, or those at SOURCE, into RAW.

    SKIPPED lists what the source has and RAW lacks, with a reason.
    """
    labels: Counter[str] = Counter()
    skipped: list[SkippedItem] = []

    def rows() -> Iterator[dict[str, object]]:
        for item in acquire_images(folder, source, load_params().acquire):
            if isinstance(item, SkippedItem):
                skipped.append(item)
            else:
                labels[item.label] += 1
                yield item.row()

    try:
        count = shards.write(raw, shards.RAW, rows())
    finally:
        # Also on failure: it lists what is missing.
        atomic.write_csv(skipped_csv, SKIPPED_COLUMNS, [item.row() for item in skipped])
    counts = ", ".join(f"{number} {label}" for label, number in sorted(labels.items()))
    reasons = format_counts(Counter(item.reason.value for item in skipped))
    print_line(f"acquire: {count} files ({counts}); left out: {reasons}")


if __name__ == "__main__":
    stage.run(main)
