"""`pipeline reproduce`."""

from typing import Annotated

import typer


def reproduce(
    run: Annotated[str, typer.Argument(help="An MLflow run's id, its beginning, or its name.")],
    again: Annotated[
        str,
        typer.Option(metavar="STAGE", help="Compute from this stage on, though it may be known."),
    ] = "",
    tolerance: Annotated[
        float, typer.Option(min=0, help="Of accuracy and loss, where the bytes differ.")
    ] = 0.01,
    changes: Annotated[
        bool,
        typer.Option("--with-changes", help="Run code that only the run's artifacts have, too."),
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the folder it was made in.")] = False,
) -> None:
    """Make a run again from its id alone, and compare.

    The commit, params and changes are checked out aside; DVC restores what its cache or its remote
    has, and runs the rest. Exits with 1 where the outcome is neither identical nor, within the
    tolerance, equal.

    Examples:

        pipeline reproduce 3f9c2ab1

        pipeline reproduce 3f9c2ab1 --again features
    """
    from pipeline.commands.reproduce import clone
    from pipeline.commands.reproduce import reproduce as making
    from pipeline.core import project
    from pipeline.core.terminal import print_table

    project.check()

    known = making.find(run)
    with clone.place(keep) as folder:
        found = making.reproduce(known, folder, making.ReproduceRequest(again, tolerance, changes))
    print_table(["stage", "", "same bytes", "other bytes"], [stage.row() for stage in found.stages])
    if not any(stage.ran for stage in found.stages):
        print("nothing was computed, all was known: --again train trains anew")
    print(found.verdict())
    making.note(found)
    if keep:
        print(f"it is in {folder}")
    if not (found.identical or found.equal):
        raise typer.Exit(1)
