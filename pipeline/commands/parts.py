"""`pipeline parts`: the commands by which several machines share a stage's work."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NoReturn

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


@dataclass(frozen=True)
class MachineCommand:
    """A command line for one machine."""

    words: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that it needs besides those of this process."""

    def __str__(self) -> str:
        """As a shell reads it."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*variables, shlex.join(self.words)])

    def execute(self) -> NoReturn:
        """Become this command, so that its exit status and signals are those of this process."""
        program, *arguments = self.words
        module = [] if program == "python" else ["-m", program]
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(  # noqa: S606 - no shell is needed
            sys.executable,
            [sys.executable, *module, *arguments],
            {**os.environ, **self.environment},
        )


def parts(
    stage: Annotated[str, typer.Argument(help="filter, features, evaluate or train.")],
    count: Annotated[int, typer.Argument(min=1, help="How many parts; of train, machines.")],
    run: Annotated[
        int | None, typer.Option(min=1, help="Run the command with this number; print none.")
    ] = None,
) -> None:
    """Print a command for each part of a stage's work, to run on machines of its own.

    With --run, become one of these commands: its exit status tells the scheduler of failures.

    They share results through PIPELINE_CACHE, or the project's .cache on a common disk. Run the
    stage afterwards: it finds the results. A machine that would compute others refuses its part.

    The commands of train are one for each of device.nodes machines, and run at the same time.

    Examples:

        pipeline parts filter 8

        pipeline parts features 8 --run "$SLURM_ARRAY_TASK_ID"
    """
    from pipeline.core.errors import PipelineError

    if run is not None and run > count:
        raise PipelineError(f"--run {run} names none of {count} commands: give 1 to {count}")
    commands = _node_commands(count) if stage == TRAIN else _part_commands(stage, count)
    if run is not None:
        commands[run - 1].execute()
    for command in commands:
        print_line(str(command))


def _part_commands(stage: str, count: int) -> list[MachineCommand]:
    """The command of each part of a stage."""
    from importlib import import_module

    from pipeline.core.errors import PipelineError

    if stage not in STAGES:
        names = f"{', '.join(STAGES)} or {TRAIN}"
        raise PipelineError(f"{stage} cannot be computed in parts: choose {names}")
    words = _stage_words(stage)
    _check_inputs(stage)
    key = import_module(f"pipeline.stages.{stage}.part").key_of(words[3:])
    numbers = range(1, count + 1)
    return [MachineCommand([*words, "--part", f"{n}/{count}", "--key", key]) for n in numbers]


def _node_commands(count: int) -> list[MachineCommand]:
    """A command for each machine that trains: DVC on the first, and takes what it writes."""
    from pipeline.core.errors import PipelineError
    from pipeline.params import load_params

    nodes = load_params().device.nodes
    if count != nodes:
        raise PipelineError(f"device.nodes={nodes}, but you ask for {count} machines")
    words = [["dvc", "repro"], *[_stage_words(TRAIN)] * (count - 1)]
    return [MachineCommand(line, {"NODE_RANK": str(rank)}) for rank, line in enumerate(words)]


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


def _stage_words(stage: str) -> list[str]:
    """The command of a stage in dvc.yaml, with the values of params."""
    from ruamel.yaml import YAML

    from pipeline.params import load_params

    dataset = load_params().dataset
    command: str = YAML(typ="safe", pure=True).load(Path("dvc.yaml"))["stages"][stage]["cmd"]
    command = command.replace("${dataset.name}", dataset.name)
    return shlex.split(command.replace("${dataset.source}", dataset.source))
