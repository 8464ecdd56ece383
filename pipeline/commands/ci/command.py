"""`pipeline ci`, for CI servers and crontabs."""

from pathlib import Path
from typing import Annotated

import typer


def ci(
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", envvar="PIPELINE_DATASET", help="A folder in datasets/."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME", envvar="PIPELINE_BACKBONE", help="Sets model.backbone."),
    ] = None,
    set_param: Annotated[
        list[str] | None,
        typer.Option(
            "-S",
            "--set-param",
            metavar="KEY=VALUE",
            envvar="PIPELINE_SET",
            help="A value of params.yaml, as for `dvc exp run`. May be repeated; the variable "
            "takes several, separated by blanks or line breaks.",
        ),
    ] = None,
    against: Annotated[
        str, typer.Option(metavar="REV", help="The revision to compare the result with.")
    ] = "main",
    summary: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the summary (Markdown) to FILE. Default: $GITHUB_STEP_SUMMARY, else only "
            "the metrics are printed.",
        ),
    ] = None,
    artifact: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The artifact that contains reports/; the summary names it."
        ),
    ] = None,
    fail_if_worse: Annotated[
        bool,
        typer.Option(
            "--fail-if-worse",
            help="Exit with 1 if the model is significantly worse than REV's, or could not be "
            "compared.",
        ),
    ] = False,
    promote: Annotated[
        bool,
        typer.Option(
            "--promote",
            help="Make the model the champion if it is better, as `pipeline promote`; the summary "
            "says why, or why not.",
        ),
    ] = False,
    issue: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --promote: if a person should decide, write the text of an issue (Markdown) "
            "to FILE.",
        ),
    ] = None,
) -> None:
    """Pull data and cache, run what has changed, push, and write a summary.

    Runs the checked-out commit with the requested values, in this folder. A second run has nothing
    to do. Without a DVC remote, nothing is pulled or pushed.

    Examples:

        pipeline ci

        pipeline ci --dataset hymenoptera --backbone resnet18 -S train.epochs=10

        pipeline ci --summary summary.md --fail-if-worse

        pipeline ci --promote --issue issue.md
    """
    from pipeline.commands.ci.overrides import parse_overrides
    from pipeline.commands.ci.steps import SummaryOptions, run
    from pipeline.core import project
    from pipeline.core.errors import PipelineError

    project.check()
    if issue and not promote:
        raise PipelineError("--issue is of --promote: give both, or none")
    options = SummaryOptions(against, summary, artifact, fail_if_worse, promote, issue)
    run(parse_overrides(dataset, backbone, set_param or ()), options)
