"""Start a stage's main from the command line, and turn its errors into exit codes."""

import inspect
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core import import_guard, program, progress, short_memory, staging, terminal
from pipeline.core.errors import PipelineError

if TYPE_CHECKING:
    import typer

RANK_SECONDS = 3  # for the first rank to say what is wrong: torchrun kills it when another ends


def run(main: Callable[..., Any]) -> None:
    """Run `main` with its parameters read from the command line; failures become exit codes.

    A `PipelineError` or an `OSError` (disk full, permission denied) is printed as one sentence
    and exits with 1; Ctrl-C exits with 130.
    """
    # Raise, as Ctrl-C does, so that files are closed and partial outputs removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    exit_on_failure(lambda: _call_main(main))


def _call_main(main: Callable[..., Any]) -> None:
    staging.remove_abandoned()
    arguments = _plain_arguments(main)
    if arguments is not None:
        main(*arguments)
        return
    import typer  # for --help, and to say what is wrong; its import takes 0.1 s

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    call(app)


def _plain_arguments(main: Callable[..., Any]) -> list[object] | None:
    """The arguments of a command line as in dvc.yaml: those without a default, texts and paths."""
    texts = sys.argv[1:]
    kinds = [
        parameter.annotation
        for parameter in inspect.signature(main).parameters.values()
        if parameter.default is parameter.empty
    ]
    are_plain = set(kinds) <= {Path, str} and not any(text.startswith("-") for text in texts)
    if len(texts) != len(kinds) or not are_plain:
        return None
    return [kind(text) for kind, text in zip(kinds, texts, strict=True)]


def call(app: "typer.Typer") -> None:
    """Run a command line; an error in it may quote the name of a file (`pipeline predict *`)."""
    import typer
    from typer.exceptions import TyperException

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
    import_guard.guard_main()
    program.end_start()
    terminal.guard()
    try:
        command()
        progress.hide_activity()
        program.end()
    except PipelineError as error:
        if os.environ.get("LOCAL_RANK", "0") != "0":  # in distributed training
            time.sleep(RANK_SECONDS)
            sys.exit(1)
        sys.exit(f"error: {terminal.printable(terminal.without_secrets(str(error)))}")
    except KeyboardInterrupt:
        sys.exit(import_guard.INTERRUPTED)
    except Exception as error:
        if import_guard.has_interrupt():
            sys.exit(import_guard.INTERRUPTED)
        sentence = short_memory.explain(error) or _of_system(error)
        if sentence is None:
            raise
        sys.exit(f"error: {terminal.printable(sentence)}")
    finally:
        progress.hide_activity()
        # The collection at exit takes over a second with torch loaded.
        program.stop_collecting()


def _of_system(error: Exception) -> str | None:
    """An error of the system (disk full, permission denied) as a sentence; None for others."""
    if not isinstance(error, OSError) or error.strerror is None:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}"
