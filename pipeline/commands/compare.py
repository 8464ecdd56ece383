"""Commands about trained models."""

from pathlib import Path
from typing import Annotated

import typer


def compare(
    one: Annotated[
        str, typer.Argument(metavar="A", help="An experiment, commit, MLflow run's id, or folder.")
    ],
    other: Annotated[str, typer.Argument(metavar="B", help="Likewise.")],
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Where to list the images they differ on.")
    ] = None,
) -> None:
    """Say whether one of two models is better, or whether it is noise.

    Both are held to the same test images, by McNemar's test and a paired bootstrap. A folder is one
    with a predictions.csv (reports/test is this project's), or a model's.

    Examples:

        pipeline compare main reports/test

        pipeline compare bold-aunt 5f0c9b1e --csv differ.csv
    """
    from pipeline.core import atomic
    from pipeline.core.terminal import print_table
    from pipeline.experiments import comparison
    from pipeline.experiments.predictions import find

    found = comparison.compare(find(one), find(other))
    print_table(["", one, other, "difference", "95 %"], comparison.table(found), numbers=True)
    if found.apart:
        print(f"{found.apart} test images of only one of them are left out")
    print(found.verdict(one, other))
    if csv is not None:
        rows = [(each.id, each.label, each.one, each.other) for each in found.differences]
        atomic.write_csv(csv, ["id", "label", "A", "B"], rows)
        print(f"{len(rows)} images on which they differ are in {csv}")
