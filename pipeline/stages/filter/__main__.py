"""Stage filter: judge every image once; store the good ones upright, as JPEG or PNG."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer

from pipeline.core import shards, stage
from pipeline.core.errors import format_counts
from pipeline.core.terminal import print_line, warn
from pipeline.core.verdicts_csv import VerdictRow, write_verdicts
from pipeline.images import reject_list
from pipeline.params import load_params
from pipeline.stages.filter.verdicts import (
    check_rejects,
    count_reasons,
    judge_images,
    verdict_rows,
)

WRITERS = 2  # shards at a time: most of that is copying into the page cache


def _clean_runs(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Consecutive rows without a reason to reject, as slices of the batch: nothing is copied."""
    is_clean = batch.column("reason").is_null().to_pylist()
    clean = batch.select(shards.CLEAN.names)
    start = 0
    for is_clean_run, rows in itertools.groupby(is_clean):
        length = sum(1 for _ in rows)
        if is_clean_run:
            yield clean.slice(start, length)
        start += length


def main(
    folder: Annotated[Path, typer.Argument(metavar="DATASET")],
    raw: Annotated[Path, typer.Argument()],
    clean: Annotated[Path, typer.Argument()],
    verdicts_csv: Annotated[Path, typer.Argument(metavar="VERDICTS")],
) -> None:
    """Judge the images of RAW; write the good ones to CLEAN and every verdict to VERDICTS.

    Images listed in DATASET/reject.csv are rejected too.
    """
    params = load_params().filter
    by_hand = reject_list.read(folder)
    table: list[VerdictRow] = []

    def clean_batches() -> Iterator[pa.RecordBatch]:
        for batch in judge_images(raw, by_hand, params):
            table.extend(verdict_rows(batch))
            yield from _clean_runs(batch)
        # Before the check, whose error refers to this file.
        write_verdicts(verdicts_csv, table)
        check_rejects(table, params, verdicts_csv)

    schema = shards.with_deviation(shards.CLEAN, shards.read_deviation(raw))
    count = shards.write_batches(clean, schema, clean_batches(), WRITERS)
    if unknown := by_hand.keys() - {row.id for row in table}:
        warn(f"filter: {len(unknown)} ids of {folder / reject_list.NAME} match no image")
    reasons = format_counts(count_reasons(table))
    print_line(f"filter: kept {count} of {len(table)} images; rejected: {reasons}")


if __name__ == "__main__":
    stage.run(main)
