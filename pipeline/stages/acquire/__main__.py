"""Stage acquire: fetch the images of a data set and write them to raw shards."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from pipeline.core import atomic, shards, stage
from pipeline.core.dvc_cache import find_last_output
from pipeline.core.errors import PipelineError, format_counts
from pipeline.core.plurals import plural
from pipeline.core.shards import growth
from pipeline.core.terminal import print_line
from pipeline.params import load_params
from pipeline.stages.acquire.raw_image import SKIPPED_COLUMNS, RawImage, SkippedItem
from pipeline.stages.acquire.sources.dispatch import open_source
from pipeline.stages.acquire.sources.listing import RowTable, iterate

MAX_CLASSES = 10  # named in the summary
SKIPPED = pa.schema(dict.fromkeys(SKIPPED_COLUMNS, pa.string()))


def write_skipped(path: Path, items: RowTable) -> None:
    """Replace the list of what the source has and the raw shards lack."""
    atomic.write_csv(path, SKIPPED_COLUMNS, iterate(items.table()))


def describe_classes(labels: Counter[str]) -> str:
    """The images of each class; of many classes their number, and the smallest and the largest."""
    if len(labels) <= MAX_CLASSES:
        return ", ".join(f"{number} {label}" for label, number in sorted(labels.items()))
    ranked = sorted((number, label) for label, number in labels.items())
    (least, smallest), (most, largest) = ranked[0], ranked[-1]
    if least == most:
        return f"{len(labels)} classes of {most}"
    return f"{len(labels)} classes of {least} ({smallest}) to {most} ({largest})"


def main(
    folder: Path,
    source: str,
    raw: Path,
    skipped_csv: Path,
) -> None:
    """Fetch the images that FOLDER/dataset.toml describes, or those at SOURCE, into RAW.

    SKIPPED_CSV lists what the source has and RAW lacks, with a reason.
    """
    labels: Counter[str] = Counter()
    skipped, reasons = RowTable(SKIPPED), Counter[str]()

    def rows(items: Iterable[RawImage | SkippedItem]) -> Iterator[dict[str, object]]:
        for item in items:
            if isinstance(item, SkippedItem):
                skipped.append(*item.row())
                reasons[item.reason.value] += 1
            else:
                labels[item.label] += 1
                yield item.row()

    with open_source(folder, source, load_params().acquire) as acquired:
        schema = shards.with_deviation(shards.RAW, acquired.deviation)
        try:
            last = find_last_output("acquire", raw)
            count = growth.write(raw, schema, rows(acquired.items), last)
        except PipelineError:
            if reasons:  # it lists what is missing
                write_skipped(skipped_csv, skipped)
            raise
    write_skipped(skipped_csv, skipped)
    deviation = f"; not as described: {acquired.deviation}" if acquired.deviation else ""
    files = f"{plural(count, 'file')} ({describe_classes(labels)})"
    print_line(f"acquire: {files}; left out: {format_counts(reasons)}{deviation}")


if __name__ == "__main__":
    stage.run(main)
