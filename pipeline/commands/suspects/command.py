"""`pipeline suspects`."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.progress import show_activity
from pipeline.core.terminal import print_line, print_table


def suspects(
    most: Annotated[int, typer.Option(min=1, help="Suspects to list.")] = 50,
    page: Annotated[Path, typer.Option(help="Page to write.")] = Path("reports/suspects.html"),
    clean: Annotated[Path, typer.Option(help="The folder of clean images.")] = Path("data/clean"),
    split: Annotated[Path, typer.Option(help="The split of each image.")] = Path("data/split.csv"),
    features: Annotated[Path, typer.Option(help="The features.")] = Path("data/features"),
) -> None:
    """List training images with labels that may be wrong, by comparison with the other images.

    Nothing is removed: list images to reject in datasets/NAME/reject.csv, or use `pipeline review`,
    which shows the same suspects and writes that list.

    Example:

        pipeline suspects --most 20
    """
    show_activity("suspects")
    from pipeline.commands.suspects.suspects import find_suspects, write_page
    from pipeline.core.percentages import format_share
    from pipeline.params import load_params

    name = load_params().dataset.name
    suspects = find_suspects(clean, split, features)
    top = suspects[:most]
    write_page(page, top, clean, name)
    rows = [
        [
            suspect.id[:12],
            f"{suspect.label} {format_share(suspect.own, 0)}",
            f"{suspect.looks_like} {format_share(suspect.other, 0)}",
            suspect.name,
        ]
        for suspect in top
    ]
    if not suspects:
        print_line("no label of a training image is suspect")
        return
    print_table(["id", "label", "looks like", "image"], rows)
    noun = "suspect" if len(suspects) == 1 else "suspects"
    print_line(f"{len(suspects)} {noun} among the training images; {page} shows {len(rows)}")
