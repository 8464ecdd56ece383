"""`pipeline suspects`."""

from pathlib import Path
from typing import Annotated

import typer


def suspects(
    most: Annotated[int, typer.Option(min=1, help="How many to list.")] = 50,
    page: Annotated[Path, typer.Option(help="Where to draw them.")] = Path("reports/suspects.html"),
    clean: Annotated[Path, typer.Option(help="The clean shards.")] = Path("data/clean"),
    split: Annotated[Path, typer.Option(help="Who is in which split.")] = Path("data/split.csv"),
    features: Annotated[Path, typer.Option(help="By what to compare.")] = Path("data/features"),
) -> None:
    """List the training images whose label the other images contradict most.

    Nothing is removed: look at them, and name those that are to go in datasets/NAME/reject.csv.

    Example:

        pipeline suspects --most 20
    """
    from pipeline.commands.suspects.suspects import find, write_page
    from pipeline.core.terminal import print_table
    from pipeline.params import load_params

    name = load_params().dataset.name
    found = find(clean, split, features)
    write_page(page, found[:most], clean, name)
    rows = [
        [one.id[:12], f"{one.label} {one.own:.0%}", f"{one.looks_like} {one.other:.0%}", one.name]
        for one in found[:most]
    ]
    print_table(["id", "label", "looks like", "image"], rows)
    print(f"{len(found)} suspects among the training images; {len(rows)} with whole ids in {page}")
