"""Stage describe: a page that shows the data, and a short table of the same."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from pipeline.core import atomic, shards, stage
from pipeline.core.leaks_csv import read_leaks
from pipeline.core.split_csv import read_split
from pipeline.core.terminal import print_table
from pipeline.core.verdicts_csv import read_verdicts
from pipeline.images import gallery, reject_list
from pipeline.params import AS_DESCRIBED, load_params
from pipeline.stages.describe.facts import (
    COLUMNS,
    FACTS,
    Data,
    _reasons,
    count_classes,
    facts,
)


def print_summary(data: Data) -> None:
    """The page in short, on the terminal."""
    counts = count_classes(data)
    every = [*counts.items(), ("all", sum(counts.values(), Counter()))]
    rows = [[label, *(str(count[name]) for name in COLUMNS)] for label, count in every]
    print_table(["class", *COLUMNS], rows, numbers=True)
    if reasons := _reasons(data):
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
    """Show what RAW became in CLEAN and in its splits, on PAGE; print the same in short."""
    data = Data(
        read_verdicts(verdicts_csv),
        shards.columns(clean, FACTS),
        {row.id: row.split for row in read_split(split_csv)},
        read_leaks(leaks_csv),
        reject_list.read(folder),
    )
    source = load_params().dataset.source
    found = facts(data, folder.name, "" if source == AS_DESCRIBED else source, raw, clean)
    atomic.write_text(data_html, gallery.render("stages/describe/data.html", found))
    print_summary(data)
    print(f"describe: {data_html}")


if __name__ == "__main__":
    stage.run(main)
