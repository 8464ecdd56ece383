"""The command that looks for better params."""

import os
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
            help="What to try of a param of head or train, in the grammar of `dvc exp run -S`; "
            "without one: kind, learning rate, decay, batch size, schedule.",
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option("-n", "--trials", min=1, help="How many there are to be in the end.")
    ] = 100,
    goal: Annotated[
        Goal, typer.Option("--by", help="What makes one better, of the weights that are kept.")
    ] = Goal.VAL_LOSS,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 1,
    name: Annotated[str, typer.Option(help="Of the run in MLflow.")] = "",
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write pictures and trials.csv there too.")
    ] = None,
    clean: Annotated[Path, typer.Option(help="The clean shards.")] = Path("data/clean"),
    split: Annotated[Path, typer.Option(help="Who is in which split.")] = Path("data/split.csv"),
    features: Annotated[Path, typer.Option(help="What trials share.")] = Path("data/features"),
) -> None:
    """Train on the same features with many params, and print the line that trains the best.

    Bad trials are stopped early. Killed, the same command goes on; with more trials too. The test
    set is never looked at.

    Examples:

        pipeline sweep

        pipeline sweep -n 50 -S "train.lr=tag(log,interval(0.0001,0.1))" -S head.kind=linear,mlp

        pipeline sweep -S "train.epochs=range(5,31,5)" -S train.schedule=cosine --by val_accuracy
    """
    # Read when torch is loaded. Operations of microseconds otherwise wait for threads that spin:
    # beside other work on the machine, an epoch took ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from pipeline.commands.sweep.sweep import SweepRequest
    from pipeline.commands.sweep.sweep import sweep as run
    from pipeline.commands.sweep.trainer import StagePaths
    from pipeline.params import load_params

    wanted = SweepRequest(overrides or [], trials, goal, seed, name, plots)
    run(load_params(), wanted, StagePaths(clean, split, features))
