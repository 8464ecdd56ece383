"""The command that servers and crontabs call."""

from pathlib import Path
from typing import Annotated

import typer


def ci(
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", envvar="PIPELINE_DATASET", help="A folder under datasets/."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME", envvar="PIPELINE_BACKBONE", help="As model.backbone has it."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "-S",
            "--set-param",
            metavar="KEY=VALUE",
            envvar="PIPELINE_SET",
            help="A value of params.yaml, as `dvc exp run` takes it; the variable has any number "
            "of them, with blanks or line ends between.",
        ),
    ] = None,
    against: Annotated[
        str, typer.Option(metavar="REV", help="Whose model the result is held to.")
    ] = "main",
    summary: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Markdown; else it goes to $GITHUB_STEP_SUMMARY, or is printed."
        ),
    ] = None,
    artifact: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Under which reports/ is kept, for the summary to say."),
    ] = None,
    fail_if_worse: Annotated[
        bool,
        typer.Option(
            "--fail-if-worse",
            help="Exit with 1 if REV's model is really better, or was not compared.",
        ),
    ] = False,
) -> None:
    """Pull data and cache, run what has changed, push, and write a summary.

    It runs the commit with the values that are asked for, in this folder. A second time it finds
    nothing to do. Without a DVC remote nothing is pulled or pushed.

    Examples:

        pipeline ci

        pipeline ci --dataset hymenoptera --backbone resnet18 -S train.epochs=10

        pipeline ci --summary summary.md --fail-if-worse
    """
    from pipeline.commands.ci.overrides import parse_overrides
    from pipeline.commands.ci.steps import SummaryOptions, run
    from pipeline.core import project

    project.check()
    telling = SummaryOptions(against, summary, artifact, fail_if_worse)
    run(parse_overrides(dataset, backbone, changes or ()), telling)
