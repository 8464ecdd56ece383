"""Commands about experiments and their runs."""

from typing import Annotated

import typer

Everything = Annotated[
    bool, typer.Option("--all-commits", help="Look at all commits, not only branches and tags.")
]


def runs(
    every: Everything = False,
    gaps: Annotated[bool, typer.Option("--missing", help="Only what one side alone has.")] = False,
) -> None:
    """List DVC's results and MLflow's runs side by side, with what is missing on either side.

    Runs whose process was killed are closed on the way.

    Examples:

        pipeline runs

        pipeline runs --missing --all-commits
    """
    from pipeline import params, project
    from pipeline.experiments import joined
    from pipeline.printable import show

    project.check()

    found = joined.pairs(every)
    shown = [pair for pair in found if pair.missing or not gaps]
    if not shown:
        print("nothing is missing" if found else "there are no results yet: `dvc repro` makes one")
        return
    here = params.load().flat()
    show(joined.HEADER, [pair.row(here) for pair in shown])
    told = {pair.missing for pair in shown} | {joined.DIRTY for pair in shown if pair.dirty}
    for what, advice in joined.ADVICE.items():
        if what in told:
            print(f"{what}: {advice}")


def sync(every: Everything = False) -> None:
    """Make MLflow hold what DVC holds: results restored from its cache, experiments pulled from a
    colleague, runs made while the server was away.

    What MLflow has already is left alone, so it may be called at any time.

    Examples:

        pipeline sync

        MLFLOW_TRACKING_URI=https://mlflow.example.org pipeline sync
    """
    from pipeline import project
    from pipeline.experiments.sync import sync as synchronise

    project.check()

    found = []
    for each in synchronise(every):
        print(f"{each.name}: {each.made or f'left as it is, {each.problem}'}", flush=True)
        found.append(each)
    done = sum(bool(each.made) for each in found)
    left = f", {len(found) - done} left as they are" if len(found) > done else ""
    print(f"sync: {done} runs created or completed{left}" if found else "sync: nothing to do")
    if any(each.refused for each in found):
        raise typer.Exit(1)


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
    from pipeline import project
    from pipeline.experiments import aside
    from pipeline.experiments import reproduce as making
    from pipeline.printable import show

    project.check()

    known = making.find(run)
    with aside.place(keep) as folder:
        found = making.reproduce(known, folder, making.Wanted(again, tolerance, changes))
    show(["stage", "", "same bytes", "other bytes"], [stage.row() for stage in found.stages])
    if not any(stage.ran for stage in found.stages):
        print("nothing was computed, all was known: --again train trains anew")
    print(found.verdict())
    making.note(found)
    if keep:
        print(f"it is in {folder}")
    if not (found.identical or found.equal):
        raise typer.Exit(1)
