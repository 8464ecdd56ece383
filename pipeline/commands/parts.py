"""`pipeline parts`: the commands by which several machines share a stage's work."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.terminal import print_line

STAGES = {"filter": "acquire", "features": "split", "evaluate": "train"}
"""Stage -> the last stage whose outputs it reads."""
INPUTS = {
    "acquire": ("data/raw",),
    "split": ("data/clean", "data/split.csv"),
    "train": ("models", "data/features"),
}
TRAIN = "train"


def parts(
    stage: Annotated[str, typer.Argument(help="filter, features, evaluate or train.")],
    count: Annotated[int, typer.Argument(min=1, help="How many parts; of train, machines.")],
) -> None:
    """Print a command for each part of a stage's work, to run on machines of its own.

    They share results through PIPELINE_CACHE, or the project's .cache on a common disk. Run the
    stage afterwards: it finds the results. A machine that would compute others refuses its part.

    The commands of train are one for each of device.nodes machines, and run at the same time.

    Examples:

        pipeline parts filter 8

        pipeline parts features 8 | sed -n "${SLURM_ARRAY_TASK_ID}p" | sh
    """
    from importlib import import_module

    from pipeline.core.errors import PipelineError

    if stage == TRAIN:
        _print_nodes(count)
        return
    if stage not in STAGES:
        names = f"{', '.join(STAGES)} or {TRAIN}"
        raise PipelineError(f"{stage} cannot be computed in parts: choose {names}")
    command = _command(stage)
    _check_inputs(stage)
    key = import_module(f"pipeline.stages.{stage}.part").key_of(command[3:])
    for number in range(1, count + 1):
        print_line(shlex.join([*command, "--part", f"{number}/{count}", "--key", key]))


def _print_nodes(count: int) -> None:
    """A line for each machine that trains: DVC on the first, and takes what it writes."""
    from pipeline.core.errors import PipelineError
    from pipeline.params import load_params

    nodes = load_params().device.nodes
    if count != nodes:
        raise PipelineError(f"device.nodes={nodes}, but you ask for {count} machines")
    print_line("NODE_RANK=0 dvc repro")
    for number in range(1, count):
        print_line(f"NODE_RANK={number} {shlex.join(_command(TRAIN))}")


def _check_inputs(stage: str) -> None:
    """Check that what a stage reads is there, and of the present params and code.

    Raises:
        PipelineError: an earlier stage must run first.
    """
    from pipeline.core import dvc_lock
    from pipeline.core.errors import PipelineError
    from pipeline.tracking.stale_stages import describe, stale_stages, state_of_workspace

    last = STAGES[stage]
    advice = f"run `dvc repro {last}` first"
    if missing := [path for path in INPUTS[last] if not Path(path).exists()]:
        raise PipelineError(f"{missing[0]}, which {stage} reads, is missing: {advice}")
    if stale := stale_stages(dvc_lock.read(), state_of_workspace(), last):
        raise PipelineError(
            f"{stage} would read results of other params, data or code ({describe(stale)}): "
            f"{advice}"
        )


def _command(stage: str) -> list[str]:
    """The command of a stage in dvc.yaml, with the values of params."""
    from ruamel.yaml import YAML

    from pipeline.params import load_params

    dataset = load_params().dataset
    command: str = YAML(typ="safe", pure=True).load(Path("dvc.yaml"))["stages"][stage]["cmd"]
    command = command.replace("${dataset.name}", dataset.name)
    return shlex.split(command.replace("${dataset.source}", dataset.source))
