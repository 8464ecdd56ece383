"""The command line: what people do with a trained pipeline. Stages are run by DVC."""

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from pipeline import __version__, stage
from pipeline.commands.ci import ci
from pipeline.commands.data import credit, pin, suspects
from pipeline.commands.experiments import reproduce, runs, sync
from pipeline.commands.export import export
from pipeline.commands.models import compare
from pipeline.commands.predict import predict
from pipeline.commands.sweep import sweep
from pipeline.commands.training import layers, recipe

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Use what the pipeline made. To make it: `dvc repro`, or `dvc exp run -S train.lr=0.003`.",
)  # fmt: skip


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print it.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


COMMANDS: dict[str, Callable[..., None]] = {
    "predict": predict, "runs": runs, "compare": compare, "sync": sync, "reproduce": reproduce,
    "sweep": sweep, "ci": ci, "export": export, "pin": pin, "credits": credit,
    "suspects": suspects, "layers": layers, "recipe": recipe,
}  # fmt: skip
for name, command in COMMANDS.items():
    app.command(name)(command)


def main() -> None:
    """The entry point `pipeline`."""
    stage.exit_on_failure(_run)


def _run() -> None:
    try:
        app()
    except BrokenPipeError:  # nobody reads any more, as behind `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
