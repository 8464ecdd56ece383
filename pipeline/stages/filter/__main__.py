"""Stage filter: decode and judge every image once, and store the good ones upright and uniform."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer

from pipeline.core import shards, stage
from pipeline.core.errors import format_counts
from pipeline.core.verdicts_csv import VerdictRow, write_verdicts
from pipeline.images import reject_list
from pipeline.params import load_params
from pipeline.stages.filter.verdicts import check, reasons_of, verdict_rows, verdicts

WRITERS = 2  # shards at a time: most of that is copying into the system's cache


def _kept(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The rows of clean shards, uncopied: those that stand together, together."""
    kept = batch.column("reason").is_null().to_pylist()
    clean = batch.select(shards.CLEAN.names)
    start = 0
    for keep, together in itertools.groupby(kept):
        length = sum(1 for _ in together)
        if keep:
            yield clean.slice(start, length)
        start += length


def main(
    folder: Annotated[Path, typer.Argument(metavar="DATASET")],
    raw: Annotated[Path, typer.Argument()],
    clean: Annotated[Path, typer.Argument()],
    verdicts_csv: Annotated[Path, typer.Argument(metavar="VERDICTS")],
) -> None:
    """Judge the images of RAW; write the good ones to CLEAN and every verdict to VERDICTS.

    What DATASET/reject.csv names is rejected too.
    """
    params = load_params().filter
    by_hand = reject_list.read(folder)
    table: list[VerdictRow] = []

    def kept() -> Iterator[pa.RecordBatch]:
        for batch in verdicts(raw, by_hand, params):
            table.extend(verdict_rows(batch))
            yield from _kept(batch)
        # First, so that it shows what to mend where the check fails.
        write_verdicts(verdicts_csv, table)
        check(table, params, verdicts_csv)

    count = shards.write_batches(clean, shards.CLEAN, kept(), WRITERS)
    rejected = format_counts(reasons_of(table))
    if unknown := by_hand.keys() - {row.id for row in table}:
        print(f"filter: {len(unknown)} ids of {folder / reject_list.NAME} are of no image here")
    print(f"filter: kept {count} of {len(table)} images; rejected: {rejected}")


if __name__ == "__main__":
    stage.run(main)
