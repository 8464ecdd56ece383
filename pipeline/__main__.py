"""The command line `pipeline`. DVC runs the stages."""

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from pipeline import __version__
from pipeline.commands.attest import attest
from pipeline.commands.ci.command import ci
from pipeline.commands.compare import compare
from pipeline.commands.credits.command import credit
from pipeline.commands.doctor.command import doctor
from pipeline.commands.drift.command import drift
from pipeline.commands.export.command import export
from pipeline.commands.layers.command import layers
from pipeline.commands.new.command import new
from pipeline.commands.parts import parts
from pipeline.commands.pin.command import pin
from pipeline.commands.predict.command import predict
from pipeline.commands.promote import promote
from pipeline.commands.recipe.command import recipe
from pipeline.commands.reproduce.command import reproduce
from pipeline.commands.review.command import review
from pipeline.commands.run import run
from pipeline.commands.runs import runs
from pipeline.commands.serve.command import serve
from pipeline.commands.suspects.command import suspects
from pipeline.commands.sweep.command import sweep
from pipeline.commands.sync import sync
from pipeline.commands.verify import verify
from pipeline.core import stage
from pipeline.core.terminal import print_line

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Use what the pipeline made. To make it: `dvc repro`, or `dvc exp run -S train.lr=0.003`.",
)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print_line(__version__)
        raise typer.Exit


COMMANDS: dict[str, Callable[..., None]] = {
    "new": new,
    "run": run,
    "predict": predict,
    "serve": serve,
    "runs": runs,
    "compare": compare,
    "promote": promote,
    "attest": attest,
    "verify": verify,
    "sync": sync,
    "reproduce": reproduce,
    "sweep": sweep,
    "ci": ci,
    "doctor": doctor,
    "export": export,
    "pin": pin,
    "credits": credit,
    "drift": drift,
    "suspects": suspects,
    "review": review,
    "layers": layers,
    "parts": parts,
    "recipe": recipe,
}
for name, command in COMMANDS.items():
    app.command(name)(command)


def main() -> None:
    """The entry point `pipeline`."""
    stage.exit_on_failure(_run)


def _run() -> None:
    try:
        stage.call(app)
    except BrokenPipeError:  # the reader has closed the pipe, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
