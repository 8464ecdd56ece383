"""Stage filter: judge every image once; store the good ones upright, as JPEG or PNG."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import shards, stage
from pipeline.core.dvc_cache import find_last_output
from pipeline.core.errors import format_counts
from pipeline.core.plurals import plural
from pipeline.core.progress import bar
from pipeline.core.shards import growth
from pipeline.core.terminal import print_line, warn
from pipeline.core.verdicts_csv import write_verdicts
from pipeline.distributed.parts import Part
from pipeline.images import hand_lists
from pipeline.images.format_detection import describe_unread
from pipeline.params import load_params
from pipeline.stages.filter.part import judge_part
from pipeline.stages.filter.verdicts import (
    Verdicts,
    check_rejects,
    count_reasons,
    count_unread,
    judge_images,
)

WRITERS = 2  # shards at a time: most of that is copying into the page cache


def _clean_batches(verdicts: Verdicts) -> Iterator[pa.RecordBatch]:
    """The rows of clean shards."""
    with bar("filter: write", len(verdicts)) as progress:
        for batch in verdicts.batches():
            yield from _clean_runs(batch)
            progress.update(len(batch))


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


def _warn_of_unknown(verdicts: Verdicts, path: Path, ids: Iterable[str]) -> None:
    """Warn of listed ids without an image: the source may have lost it."""
    listed, images = pa.array(list(ids), pa.string()), verdicts.facts.column("id")
    known = images.filter(pc.is_in(images, listed))  # not a table of all ids to search in
    unknown = listed.filter(pc.invert(pc.is_in(listed, known)))
    if len(unknown):
        warn(f"filter: {path} has {plural(len(unknown), 'id')} of no image, such as {unknown[0]}")


def _warn_of_emptied_classes(facts: pa.Table, relabel_csv: Path) -> None:
    """Warn of classes of the source whose images all have another label by hand."""
    labels = facts.column("label")
    source_labels = pc.coalesce(facts.column("source_label"), labels)
    for label in sorted({*source_labels.unique().to_pylist()} - {*labels.unique().to_pylist()}):
        warn(f"filter: {relabel_csv} leaves no image in class {label!r}, so the class is gone")


def _summarise(verdicts: Verdicts) -> str:
    reasons = format_counts(count_reasons(verdicts.facts))
    relabelled = len(verdicts) - verdicts.facts.column("source_label").null_count
    return f"rejected: {reasons}" + (f"; relabelled by hand: {relabelled}" if relabelled else "")


def main(
    folder: Path, raw: Path, clean: Path, verdicts_csv: Path, *, part: str = "", key: str = ""
) -> None:
    """Judge the images of RAW; write the good ones to CLEAN and every verdict to VERDICTS_CSV.

    Images listed in FOLDER/reject.csv are rejected too, and those in FOLDER/relabel.csv have the
    labels that it gives.

    With --part 2/8, judge the second of eight parts and write nothing: see docs/cluster.md.
    """
    params = load_params().filter
    if part:
        judge_part(raw, params, Part.parse(part), key)
        return
    by_hand, corrections = hand_lists.read_rejects(folder), hand_lists.read_corrections(folder)
    if corrections:
        classes = shards.columns(raw, ["label"]).column("label").unique().to_pylist()
        hand_lists.check_labels(folder, corrections, classes)
    verdicts = judge_images(raw, by_hand, params, corrections)
    for name, number in count_unread(verdicts.facts).most_common():
        warn(f"filter: {describe_unread(name, number)}")
    write_verdicts(verdicts_csv, verdicts.rows())  # the errors of the check refer to it
    check_rejects(verdicts.facts, params, verdicts_csv)
    schema = shards.with_deviation(shards.CLEAN, shards.read_deviation(raw))
    last = find_last_output("filter", clean)
    count = growth.write_batches(clean, schema, _clean_batches(verdicts), last, WRITERS)
    for name, ids in ((hand_lists.REJECT_CSV, by_hand), (hand_lists.RELABEL_CSV, corrections)):
        _warn_of_unknown(verdicts, folder / name, ids)
    _warn_of_emptied_classes(verdicts.facts, folder / hand_lists.RELABEL_CSV)
    print_line(f"filter: kept {count} of {len(verdicts)} images; {_summarise(verdicts)}")


if __name__ == "__main__":
    stage.run(main)
