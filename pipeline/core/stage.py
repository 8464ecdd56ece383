"""How a stage starts and how it fails: the edge between DVC's command line and a stage's main."""

import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import typer

from pipeline.core.errors import PipelineError


def run(main: Callable[..., Any]) -> None:
    """Run `main` with its parameters read from the command line; failures become exit codes.

    A `PipelineError`, or an error of the operating system (a full disk, a missing right), is
    printed as one sentence and exits with 1; Ctrl-C exits with 130.
    """
    # As Ctrl-C does: what is open is closed, and nothing half-made stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    exit_on_failure(app)


def exit_on_failure(command: Callable[[], Any]) -> None:
    """Call `command`; print what people can mend as one sentence instead of a traceback."""
    gc.freeze()  # of what was imported nothing is freed: looking through it takes 0.4 s each time
    gc.enable()
    try:
        command()
    except PipelineError as error:
        first = os.environ.get("LOCAL_RANK", "0") == "0"  # of processes that train together
        sys.exit(f"error: {error}" if first else 1)
    except OSError as error:
        if error.strerror is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {where}{error.strerror}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        # Python ends by looking for cycles among all objects: over a second with torch loaded.
        gc.disable()
        gc.freeze()
