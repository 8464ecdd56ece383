"""`pipeline reproduce`."""

from typing import Annotated

import typer

from pipeline.core import program
from pipeline.core.progress import show_activity
from pipeline.core.terminal import print_line, print_table


def reproduce(
    run: Annotated[
        str, typer.Argument(help="The id of an MLflow run, the start of its id, or its name.")
    ],
    again: Annotated[
        str,
        typer.Option(
            metavar="STAGE", help="Compute this stage and those after it, even if cached."
        ),
    ] = "",
    tolerance: Annotated[
        float, typer.Option(min=0, help="Allowed difference of accuracy and of loss.")
    ] = 0.01,
    with_changes: Annotated[
        bool,
        typer.Option(
            "--with-changes", help="Allow code to run that is only in the run's artifacts."
        ),
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary folder.")] = False,
) -> None:
    """Make a run again from its id, and compare.

    The run's commit, params and changes are checked out in a temporary folder. DVC restores what
    its cache or its remote has, and runs the rest. Exits with 1 if outputs differ and accuracy or
    loss are not within the tolerance.

    Examples:

        pipeline reproduce 3f9c2ab1

        pipeline reproduce 3f9c2ab1 --again features
    """
    from pipeline.core import project

    project.check()
    show_activity("reproduce")
    with program.imports():
        from pipeline.commands.reproduce import clone, verdict
        from pipeline.commands.reproduce.reproduce import ReproduceRequest, tag_run
        from pipeline.commands.reproduce.reproduce import reproduce as reproduce_run
        from pipeline.experiments.run_lookup import find_run

    mlflow_run, request = find_run(run), ReproduceRequest(again, tolerance, with_changes)
    with clone.temporary_folder(keep) as folder:
        reproduction = reproduce_run(mlflow_run, folder, request)
    print_table(verdict.HEADER, [stage.row() for stage in reproduction.stages])
    if not any(stage.is_computed for stage in reproduction.stages):
        print_line("nothing was computed, everything was in the cache: --again train trains again")
    print_line(reproduction.verdict())
    tag_run(reproduction)
    if keep:
        print_line(f"the reproduction is in {folder}")
    if not (reproduction.is_identical or reproduction.is_equal):
        raise typer.Exit(1)
