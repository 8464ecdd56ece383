"""Stage acquire: bytes from anywhere become raw shards."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from pipeline.core import atomic, shards, stage
from pipeline.core.errors import counted
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

    What the source lists and RAW does not have is named in SKIPPED, with a reason.
    """
    labels: Counter[str] = Counter()
    skipped: list[SkippedItem] = []

    def rows() -> Iterator[dict[str, object]]:
        for found in acquire_images(folder, source, load_params().acquire):
            if isinstance(found, SkippedItem):
                skipped.append(found)
            else:
                labels[found.label] += 1
                yield found.row()

    try:
        count = shards.write(raw, shards.RAW, rows())
    finally:
        # Also on failure: it shows what is missing.
        atomic.write_csv(skipped_csv, SKIPPED_COLUMNS, [one.row() for one in skipped])
    counts = ", ".join(f"{number} {label}" for label, number in sorted(labels.items()))
    left_out = counted(Counter(one.reason.value for one in skipped))
    print(f"acquire: {count} files ({counts}); left out: {left_out}")


if __name__ == "__main__":
    stage.run(main)
