"""`pipeline compare`."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.core import program
from pipeline.core.progress import show_activity
from pipeline.core.terminal import print_line, print_table


def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="An experiment, a revision, the id of an MLflow run, a folder, or @champion.",
        ),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="The model to compare with A.")],
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Write the images they disagree on to FILE."),
    ] = None,
) -> None:
    """Compare two models on the same test images, and test whether the difference is significant.

    Uses McNemar's test and a paired bootstrap. A folder contains a predictions.csv (such as
    reports/test) or a model (such as models).

    Examples:

        pipeline compare main reports/test

        pipeline compare bold-aunt 5f0c9b1e --csv differ.csv

        pipeline compare @champion models
    """
    show_activity("compare")
    with program.imports():
        from pipeline.core import atomic
        from pipeline.experiments import comparison
        from pipeline.experiments.predictions import load_predictions

    result = comparison.compare(load_predictions(a), load_predictions(b))
    print_table(["", a, b, "difference", "95 %"], result.rows(), numbers=True)
    for remark in result.remarks(a, b):
        print_line(remark)
    print_line(result.verdict(a, b))
    if csv is not None:
        rows = [
            (image.id, image.label, image.predicted_a, image.predicted_b)
            for image in result.disagreements
        ]
        atomic.write_csv(csv, ["id", "label", "A", "B"], rows)
        print_line(f"{csv} lists the {len(rows)} images on which they disagree")
