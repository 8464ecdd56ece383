"""Ctrl-C, and a lack of memory, while a program imports its packages.

It is imported first, before `terminal`, which takes longer.
"""

import os
import signal
import sys
import threading
from types import TracebackType

from pipeline.core import program, short_memory

INTERRUPTED = 130  # exit code after Ctrl-C

_has_interrupt = threading.Event()


def guard_imports() -> None:
    """While a program imports, end it at Ctrl-C, and print a lack of memory as one sentence.

    Nothing is open yet that would have to be closed. A KeyboardInterrupt would print where it was,
    and numpy takes it for a broken installation.
    """
    if program.IS_PROGRAM:
        sys.excepthook = _print_import_error
        _set_interrupt(signal.default_int_handler, _end_imports)


def warn_of_low_limit() -> None:
    """Before a crash of a library's code, which says nothing."""
    if sentence := short_memory.describe_low_limit():
        sys.stderr.write(f"warning: {sentence}\n")


def guard_main() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt in a program, so that files are closed."""
    if program.IS_PROGRAM:
        _set_interrupt(_end_imports, _interrupt)


def has_interrupt() -> bool:
    """Whether Ctrl-C was pressed: a library may have turned the KeyboardInterrupt into an error."""
    return _has_interrupt.is_set()


def _set_interrupt(before: object, handler: object) -> None:
    """Replace the handler of Ctrl-C, unless it is another, or ignored as in a background job."""
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGINT) is before:
        signal.signal(signal.SIGINT, handler)  # type: ignore[arg-type]


def _end_imports(*_: object) -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write("\n")  # after the line that says what is at work
    # OpenBLAS sends this signal, too, when it can start no thread.
    if short_memory.is_near_limit():
        sys.stderr.write(f"error: {short_memory.describe()}\n")
        sys.stderr.flush()
        os._exit(1)
    os._exit(INTERRUPTED)


def _interrupt(*_: object) -> None:
    _has_interrupt.set()
    raise KeyboardInterrupt


def _print_import_error(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if sentence := short_memory.explain(error):
        sys.stderr.write(f"error: {sentence}\n")
    else:
        sys.__excepthook__(kind, error, trace)
