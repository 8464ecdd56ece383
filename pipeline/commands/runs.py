"""`pipeline runs`."""

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.options import AllCommits
from pipeline.core import program
from pipeline.core.progress import show_activity
from pipeline.core.terminal import print_line, print_table

if TYPE_CHECKING:
    from pipeline.experiments.paired_runs import PairedRun


def runs(
    all_commits: AllCommits = False,
    missing_only: Annotated[
        bool, typer.Option("--missing", help="List only what DVC or MLflow lacks.")
    ] = False,
) -> None:
    """List results in DVC and runs in MLflow side by side, and what either side lacks.

    Also closes runs whose process was killed.

    Examples:

        pipeline runs

        pipeline runs --missing --all-commits
    """
    from pipeline.core import project

    project.check()
    show_activity("runs")
    with program.imports():
        from pipeline.experiments import paired_runs
        from pipeline.params import load_params

    all_pairs = paired_runs.paired_runs(all_commits)
    pairs = [pair for pair in all_pairs if pair.missing or not missing_only]
    if not pairs:
        print_line(
            "nothing is missing" if all_pairs else "there are no results yet: `dvc repro` makes one"
        )
        return
    params = load_params().flat()
    print_table(paired_runs.HEADER, [pair.row(params) for pair in pairs])
    _print_advice(pairs)


def _print_advice(pairs: list["PairedRun"]) -> None:
    """Explain what is missing, once for each kind."""
    from pipeline.experiments.paired_runs import ADVICE, DIRTY

    kinds = {pair.missing for pair in pairs} | {DIRTY for pair in pairs if pair.is_dirty}
    for kind, advice in ADVICE.items():
        if kind in kinds:
            print_line(f"{kind}: {advice}")
