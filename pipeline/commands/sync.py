"""`pipeline sync`."""

import typer

from pipeline.commands.runs import Everything


def sync(every: Everything = False) -> None:
    """Make MLflow hold what DVC holds: results restored from its cache, experiments pulled from a
    colleague, runs made while the server was away.

    What MLflow has already is left alone, so it may be called at any time.

    Examples:

        pipeline sync

        MLFLOW_TRACKING_URI=https://mlflow.example.org pipeline sync
    """
    from pipeline.core import project
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
