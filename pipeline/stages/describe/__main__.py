"""Stage describe: a page about the data, and a summary on the terminal."""

from collections import Counter
from functools import partial
from itertools import islice
from pathlib import Path

from pipeline.core import atomic, shards, stage
from pipeline.core.plurals import plural
from pipeline.core.skipped_csv import scan_skipped
from pipeline.core.split_csv import read_leaks, scan_split
from pipeline.core.terminal import name_source, print_line, print_table
from pipeline.core.verdicts_csv import scan_verdicts
from pipeline.images import gallery, hand_lists
from pipeline.params import AS_DESCRIBED, load_params
from pipeline.stages.describe.facts import (
    CLEAN_COLUMNS,
    COLUMNS,
    Data,
    ImageCounts,
    count_images,
    select_classes,
)
from pipeline.stages.describe.page import MAX_LEAKS, Origin, build_page
from pipeline.stages.describe.skipped import count_skipped

MAX_CLASSES = 40  # in the table on the terminal


def print_summary(counts: ImageCounts) -> None:
    """Print images by class and split, and by reason of rejection."""
    classes = select_classes(counts.classes, MAX_CLASSES)
    lines = [(label, counts.classes[label]) for label in classes]
    if rest := counts.classes.keys() - {*classes}:
        of_rest = sum((counts.classes[label] for label in rest), Counter[str]())
        lines.append((plural(len(rest), "more class", "more classes"), of_rest))
    lines.append(("all", counts.total))
    rows = [[label, *(str(count[column]) for column in COLUMNS)] for label, count in lines]
    print_table(["class", *COLUMNS], rows, numbers=True)
    if counts.reasons:
        rejected = [[reason, str(images)] for reason, images in counts.reasons.items()]
        print_table(["rejected for", "images"], rejected, numbers=True)


def main(
    folder: Path,
    raw: Path,
    clean: Path,
    verdicts_csv: Path,
    split_csv: Path,
    leaks_csv: Path,
    skipped_csv: Path,
    data_html: Path,
) -> None:
    """Write DATA_HTML about the images of RAW: accepted, rejected, and their splits."""
    leaks = read_leaks(leaks_csv)
    data = Data(
        partial(scan_verdicts, verdicts_csv),
        shards.columns(clean, CLEAN_COLUMNS),
        partial(scan_split, split_csv),
        list(islice(leaks, MAX_LEAKS)),
        len(leaks),
        hand_lists.read_rejects(folder),
    )
    counts = count_images(data)
    source = load_params().dataset.source
    origin = Origin(
        folder.name,
        "" if source == AS_DESCRIBED else name_source(source),
        shards.read_deviation(raw),
    )
    skipped = count_skipped(scan_skipped(skipped_csv))
    page = build_page(data, counts, origin, skipped, raw, clean)
    atomic.write_text(data_html, gallery.render("stages/describe/data.html", page))
    print_summary(counts)
    print_line(f"describe: {data_html}")


if __name__ == "__main__":
    stage.run(main)
