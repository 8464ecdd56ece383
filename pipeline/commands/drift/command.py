"""`pipeline drift`."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from pipeline.core import program
from pipeline.core.progress import show_activity
from pipeline.core.terminal import print_line, print_table

DRIFT = 3  # exit code


def drift(
    new: Annotated[
        list[str],
        typer.Argument(
            metavar="NEW...",
            help="New images: files, folders, patterns, zip or tar archives, URLs; or the log of "
            "`pipeline serve --log`.",
        ),
    ],
    level: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="Probability of a false alarm.")
    ] = 0.01,
    page: Annotated[Path, typer.Option(help="Page to write.")] = Path("reports/drift.html"),
) -> None:
    """Compare new images with those that the model was trained on.

    Says whether they differ, which are far from all training images, and how accurate the model
    probably is on them, without labels. Takes the model in models/ and the features in
    data/features; only images that are new are computed. docs/drift.md explains the tests.

    Exit codes: 0, no difference is shown; 3, a difference is shown; 1, it could not be compared.

    Examples:

        pipeline drift ~/Pictures/this-week

        pipeline drift more.zip --level 0.05

        pipeline drift served.jsonl
    """
    show_activity("drift")
    with program.imports():
        from pipeline.commands.drift.drift import compare_new
        from pipeline.commands.drift.page import write_page
        from pipeline.params import load_params

    params = load_params()
    with tempfile.TemporaryDirectory() as folder:
        result = compare_new(new, params, level, Path(folder))
        write_page(page, result, params.dataset.name)
    print_table(*result.table(), numbers=True)
    for sentence in result.sentences():
        print_line(sentence)
    print_line(f"{page} shows the images that are furthest away")
    if result.comparison.is_shown:
        sys.exit(DRIFT)
