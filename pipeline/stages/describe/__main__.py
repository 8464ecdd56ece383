"""Stage describe: a page about the data, and a summary on the terminal."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from pipeline.core import atomic, shards, stage
from pipeline.core.split_csv import read_leaks, read_split
from pipeline.core.terminal import print_line, print_table
from pipeline.core.verdicts_csv import read_verdicts
from pipeline.images import gallery, reject_list
from pipeline.params import AS_DESCRIBED, load_params
from pipeline.stages.describe.facts import (
    CLEAN_COLUMNS,
    COLUMNS,
    Data,
    count_classes,
    count_reasons,
)
from pipeline.stages.describe.page import Origin, build_page


def print_summary(data: Data) -> None:
    """Print images by class and split, and by reason of rejection."""
    counts = count_classes(data)
    lines = [*counts.items(), ("all", sum(counts.values(), Counter()))]
    rows = [[label, *(str(count[column]) for column in COLUMNS)] for label, count in lines]
    print_table(["class", *COLUMNS], rows, numbers=True)
    if reasons := count_reasons(data):
        rejected = [[reason, str(images)] for reason, images in reasons.items()]
        print_table(["rejected for", "images"], rejected, numbers=True)


def main(
    folder: Annotated[Path, typer.Argument(metavar="DATASET")],
    raw: Path,
    clean: Path,
    verdicts_csv: Annotated[Path, typer.Argument(metavar="VERDICTS")],
    split_csv: Annotated[Path, typer.Argument(metavar="SPLIT")],
    leaks_csv: Annotated[Path, typer.Argument(metavar="LEAKS")],
    data_html: Annotated[Path, typer.Argument(metavar="PAGE")],
) -> None:
    """Write PAGE about the images of RAW: accepted, rejected, and their splits."""
    data = Data(
        list(read_verdicts(verdicts_csv)),
        shards.columns(clean, CLEAN_COLUMNS),
        {row.id: row.split for row in read_split(split_csv)},
        list(read_leaks(leaks_csv)),
        reject_list.read(folder),
    )
    source = load_params().dataset.source
    origin = Origin(
        folder.name, "" if source == AS_DESCRIBED else source, shards.read_deviation(raw)
    )
    page = build_page(data, origin, raw, clean)
    atomic.write_text(data_html, gallery.render("stages/describe/data.html", page))
    print_summary(data)
    print_line(f"describe: {data_html}")


if __name__ == "__main__":
    stage.run(main)
