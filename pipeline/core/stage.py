"""Start a stage's main from the command line, and turn its errors into exit codes."""

import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.exceptions import TyperException

from pipeline.core import terminal
from pipeline.core.errors import PipelineError


def run(main: Callable[..., Any]) -> None:
    """Run `main` with its parameters read from the command line; failures become exit codes.

    A `PipelineError` or an `OSError` (disk full, permission denied) is printed as one sentence
    and exits with 1; Ctrl-C exits with 130.
    """
    # Raise, as Ctrl-C does, so that files are closed and partial outputs removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    exit_on_failure(lambda: call(app))


def call(app: typer.Typer) -> None:
    """Run a command line; an error in it may quote the name of a file (`pipeline predict *`)."""
    try:
        code = typer.main.get_command(app)(standalone_mode=False)
    except TyperException as error:
        from typer.rich_utils import rich_format_error

        error.message = terminal.printable(error.message)
        rich_format_error(error)  # type: ignore[arg-type]
        sys.exit(error.exit_code)
    if code:
        sys.exit(code)


def exit_on_failure(command: Callable[[], Any]) -> None:
    """Call `command`; print errors that people can fix as one sentence, without a traceback."""
    gc.freeze()  # imports create no garbage; searching them takes 0.4 s per collection
    gc.enable()
    terminal.guard()
    try:
        command()
    except PipelineError as error:
        is_first = os.environ.get("LOCAL_RANK", "0") == "0"  # in distributed training
        sys.exit(f"error: {terminal.printable(str(error))}" if is_first else 1)
    except OSError as error:
        if error.strerror is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {terminal.printable(f'{where}{error.strerror}')}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        # The collection at exit takes over a second with torch loaded.
        gc.disable()
        gc.freeze()
