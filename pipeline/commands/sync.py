"""`pipeline sync`."""

import typer

from pipeline.commands.options import AllCommits
from pipeline.core.plurals import plural
from pipeline.core.terminal import print_line


def sync(all_commits: AllCommits = False) -> None:
    """Create or complete MLflow runs of results in DVC.

    Results have no run, or part of one, if they were restored from DVC's cache, pulled from a
    colleague, or computed while the server was unreachable. Complete runs stay as they are.

    Examples:

        pipeline sync

        MLFLOW_TRACKING_URI=https://mlflow.example.org pipeline sync
    """
    from pipeline.core import project
    from pipeline.experiments.sync import sync as sync_runs

    project.check()

    synced_runs = []
    for run in sync_runs(all_commits):
        print_line(f"{run.label}: {run.action or f'left as it is, {run.problem}'}")
        synced_runs.append(run)
    changed = sum(bool(run.action) for run in synced_runs)
    unchanged = len(synced_runs) - changed
    rest = f", {unchanged} unchanged" if unchanged else ""
    print_line(
        f"sync: {plural(changed, 'run')} created or completed{rest}"
        if synced_runs
        else "sync: nothing to do"
    )
    if any(run.is_server_problem for run in synced_runs):
        raise typer.Exit(1)
