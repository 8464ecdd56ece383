"""Command sweep: search for better params of head and train."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.sweep.goal import Goal


def sweep(
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "-S",
            "--set-param",
            metavar="NAME=VALUES",
            help="Values to try of a param of head or train, in the grammar of `dvc exp run -S`; "
            "by default: head kind, learning rate, weight decay, batch size, schedule.",
        ),
    ] = None,
    trials: Annotated[
        int,
        typer.Option(
            "-n", "--trials", min=1, help="How many, with those of earlier runs of the same sweep."
        ),
    ] = 100,
    goal: Annotated[
        Goal, typer.Option("--by", help="The validation figure to optimise.")
    ] = Goal.VAL_LOSS,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampler.")] = 1,
    name: Annotated[str, typer.Option(help="Name of the run in MLflow.")] = "",
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder for the pictures and trials.csv.")
    ] = None,
    clean: Annotated[Path, typer.Option(help="The folder of clean images.")] = Path("data/clean"),
    split: Annotated[Path, typer.Option(help="The split of each image.")] = Path("data/split.csv"),
    features: Annotated[Path, typer.Option(help="The features that trials share.")] = Path(
        "data/features"
    ),
) -> None:
    """Train on the same features with many params, and print the command that trains the best.

    Bad trials are stopped early. After a kill, the same command continues; also with more trials.
    The test set is never used.

    Examples:

        pipeline sweep

        pipeline sweep -n 50 -S "train.lr=tag(log,interval(0.0001,0.1))" -S head.kind=linear,mlp

        pipeline sweep -S "train.epochs=range(5,31,5)" -S train.schedule=cosine --by val_accuracy
    """
    from pipeline.commands.sweep.sweep import SweepRequest
    from pipeline.commands.sweep.sweep import sweep as run_sweep
    from pipeline.commands.sweep.trainer import StagePaths
    from pipeline.params import load_params

    request = SweepRequest(overrides or [], trials, goal, seed, name, plots)
    run_sweep(load_params(), request, StagePaths(clean, split, features))
