"""`pipeline promote`."""

from typing import Annotated

import typer

from pipeline.core import program
from pipeline.core.errors import PipelineError
from pipeline.core.progress import show_activity
from pipeline.core.terminal import print_line


def promote(
    run: Annotated[
        str,
        typer.Argument(
            help="The id of an MLflow run, the start of its id, or its name. Default: the run of "
            "the model in the workspace.",
        ),
    ] = "",
    because: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="Your reason to promote it untested; MLflow keeps the text."
        ),
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; change nothing in MLflow.")
    ] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Make the champion before this one the champion.")
    ] = False,
) -> None:
    """Make a model the champion of its data set, if it is better than the present one.

    The champion is the model in use: `models:/NAME@champion` in MLflow, `@champion` for commands of
    this project. The first model becomes the champion at once. A later one must be better on the
    test images that neither of the two has seen, worse at no class, and must answer as it would be
    served. The more often a champion is challenged, the more certain that has to be, so that noise
    rarely promotes a model; a result that is nearly certain enough is called borderline, and a
    person can decide with --because. Exits with 1 if the model is not promoted.

    Examples:

        pipeline promote

        pipeline promote 3f9c2ab1 --dry-run

        pipeline promote 3f9c2ab1 --because "the new camera matters more than the old test images"

        pipeline promote --rollback
    """
    from pipeline.core import project

    project.check()
    show_activity("promote")
    if rollback:
        _roll_back(run, because, dry_run)
        return
    with program.imports():
        from pipeline.experiments import run_lookup
        from pipeline.experiments.promotion.promote import promote as promote_run

    mlflow_run = run_lookup.find_run(run) if run else run_lookup.find_workspace_run()
    promotion = promote_run(mlflow_run, because, dry_run)
    print_line(promotion.sentence())
    if advice := promotion.advice():
        print_line(advice)
    if not (promotion.is_promoted or promotion.is_champion):
        raise typer.Exit(1)


def _roll_back(run: str, because: str, dry_run: bool) -> None:
    if run or dry_run:
        raise PipelineError(
            "--rollback takes no run and no --dry-run: it goes back by one champion"
        )
    from pathlib import Path

    with program.imports():
        from pipeline.experiments.promotion.promote import roll_back
        from pipeline.params import load_params
        from pipeline.tracking import store

    store.connect()
    name = load_params(Path("params.yaml")).dataset.name
    champion, former = roll_back(name, because)
    print_line(f"the champion of {name} is {former} again, not {champion}")
