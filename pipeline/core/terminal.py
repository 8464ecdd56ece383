"""Everything that is printed: names are made safe here, and nothing is printed elsewhere.

Names come from strangers: of files, classes, photographs, branches, runs, and in the messages of
servers and libraries. A terminal obeys some of their characters, and a reader does not see others.
"""

import hashlib
import io
import json
import logging
import re
import sys
import threading
import traceback
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, TextIO

from pipeline.core.csv_cells import write_rows
from pipeline.core.status_line import status_line

# Letters and marks without a shape, which str.isprintable takes for visible.
SHAPELESS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")

# A character of "::error::text" at the start of a line, or of "##[error]text" anywhere.
BUILD_COMMAND = re.compile(r"(?<!\S):(?=:)|(?<=#)#(?=\[|vso\[)")

# "bob:password@" in front of a host, as people write addresses for MLflow and Ray; not the drive
# "C:\\".
USER = re.compile(r"(?<![\w.+%-])(?![a-zA-Z]:[/\\])[\w.+%-]+:(?!//)\S*@")
# Not "https://flickr.com/photos/1@N00", but "https://bob:pass/word@host".
USER_OF_URL = re.compile(r"://([^\s/?#]*|[^\s/@:]*:\S*)@")
SECRET_VALUE = re.compile(
    r"([?&][\w.-]*(?:key|token|sig|signature|secret|password|passwd|pwd|credential|auth)=)[^\s&#)]+",
    re.IGNORECASE,
)


def printable(text: str) -> str:
    """`text` on one line, with an escape such as \\x1b for each character that could deceive.

    These are control characters, those that turn the direction of writing, invisible ones, bytes
    that are not UTF-8, and what would be a command to GitHub's or Azure's build servers, which read
    the log. All blanks become spaces.
    """
    if text.lstrip().startswith("::") or "##" in text:
        text = BUILD_COMMAND.sub(lambda match: f"\\x{ord(match[0]):x}", text)
    if text.isprintable() and (text.isascii() or SHAPELESS.isdisjoint(text)):
        return text
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character.isprintable() and character not in SHAPELESS:
        return character
    is_blank = unicodedata.category(character) == "Zs"
    return " " if is_blank else character.encode("unicode_escape").decode()


def printable_lines(text: str) -> str:
    """Like `printable`, with the line breaks and tabs of `text`."""
    return re.sub(r"[^\n\t]+", lambda match: printable(match[0]), text)


def one_line(error: BaseException) -> str:
    """The message of an error on one line of at most 200 characters, without passwords."""
    message = printable(" ".join(without_password(str(error)).split()))[:200]
    return message or type(error).__name__


def without_password(text: str) -> str:
    """Text whose addresses have no user, password or query, also those without a scheme."""
    # Up to the last @, since a password may contain any character; a query may hold a token.
    text = re.sub(r"(://[^\s?]*|\burl: /[^\s?]*)\?[^\s:)]*", r"\1", re.sub(r"://\S*@", "://", text))
    return USER.sub("", text)


def without_secrets(text: str) -> str:
    """Text whose URLs have no user, no password, and no value of a query that is named as secret.

    For sentences, which may also name files: those are left as they are.
    """
    return SECRET_VALUE.sub(r"\1...", USER_OF_URL.sub("://", text))


def name_source(source: str) -> str:
    """A source of images as pages name it that are sent to others: without a machine's folders.

    Of a path it is the last part, of a URL what `without_password` leaves.
    """
    if "://" in source:
        return without_password(source)
    return PurePosixPath(source.replace("\\", "/")).name or source


def safe_file_name(text: str) -> str:
    """A visible file name that every system accepts and that leads to no other folder."""
    name = "".join(character if character.isprintable() else "_" for character in text)
    return re.sub(r'[\\/:*?"<>|]|^\.+', "_", name)


def distinct_file_names(texts: Iterable[str]) -> dict[str, str]:
    """A safe file name for each text; those that would share one end in a part of their digest.

    Names that differ in case alone are one on some systems.
    """
    names = {text: safe_file_name(text) for text in texts}
    shared = Counter(name.casefold() for name in names.values())
    return {
        text: name if shared[name.casefold()] == 1 else _with_digest(name, text)
        for text, name in names.items()
    }


def distinct_printable(texts: Iterable[str]) -> dict[str, str]:
    """The printable form of each text; those that would share one end in a part of their digest."""
    names = {text: printable(text) for text in texts}
    shared = Counter(names.values())
    return {
        text: name if shared[name] == 1 else _with_digest(name, text)
        for text, name in names.items()
    }


def _with_digest(name: str, text: str) -> str:
    return f"{name}-{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]


def print_line(*cells: str, file: TextIO | None = None) -> None:
    """Print a line at once, with tabs between cells; `file` is standard output if None."""
    with status_line.hidden():
        print("\t".join(map(printable, cells)), file=file, flush=True)


def warn(message: str) -> None:
    """Print a warning on stderr."""
    print_line(f"warning: {without_secrets(message)}", file=sys.stderr)


def print_json(record: object) -> None:
    """Print a line of JSON, in ASCII."""
    with status_line.hidden():
        print(json.dumps(record).replace("\x7f", r"\u007f"), flush=True)


def print_csv(cells: Sequence[object]) -> None:
    """Print a row of CSV: for a program with the exact names, on a terminal with printable ones."""
    if sys.stdout.isatty():
        cells = [printable(cell) if isinstance(cell, str) else cell for cell in cells]
    with status_line.hidden():
        write_rows(sys.stdout, [cells])
        sys.stdout.flush()


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = False
) -> None:
    """Print a table.

    Args:
        numbers: Whether all columns but the first are numbers, which are aligned right.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(header):
        table.add_column(
            Text(printable(name)),
            justify="right" if numbers and index else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    # Do not wrap when piped: grep needs whole words.
    with status_line.hidden():
        Console(width=None if sys.stdout.isatty() else 1000).print(table)


def guard() -> None:
    """Make what Python and libraries print safe, too: tracebacks, warnings and log records.

    What the terminal's encoding lacks is printed as an escape, instead of an error.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.excepthook = _print_traceback
    threading.excepthook = lambda failure: _print_traceback(*failure[:3])
    warnings.showwarning = _show_warning
    create = logging.getLogRecordFactory()

    def create_printable(*arguments: Any, **facts: Any) -> logging.LogRecord:
        status_line.clear()
        record = create(*arguments, **facts)
        record.msg, record.args = printable_lines(record.getMessage()), ()
        return record

    logging.setLogRecordFactory(create_printable)


def _print_traceback(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    with status_line.hidden():
        sys.stderr.write(printable_lines("".join(traceback.format_exception(kind, error, trace))))


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    text = warnings.formatwarning(message, category, filename, lineno, line)
    with status_line.hidden():
        print(printable_lines(text), end="", file=file or sys.stderr)
