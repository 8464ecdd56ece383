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
    from pipeline.core import project
    from pipeline.core.terminal import print_table
    from pipeline.experiments import paired_runs
    from pipeline.params import load_params

    project.check()

    found = paired_runs.paired_runs(every)
    shown = [pair for pair in found if pair.missing or not gaps]
    if not shown:
        print("nothing is missing" if found else "there are no results yet: `dvc repro` makes one")
        return
    here = load_params().flat()
    print_table(paired_runs.HEADER, [pair.row(here) for pair in shown])
    told = {pair.missing for pair in shown} | {paired_runs.DIRTY for pair in shown if pair.dirty}
    for what, advice in paired_runs.ADVICE.items():
        if what in told:
            print(f"{what}: {advice}")
