import ast
import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import terminal
from tests import ROOT
from tests.builders.names import DECEPTIVE
from tests.builders.terminals import run_in_terminal


@pytest.mark.parametrize("text", DECEPTIVE)
def test_a_character_that_deceives_is_visible_as_an_escape(text: str) -> None:
    line = terminal.printable(f"a{text}b")
    assert line.isprintable()
    assert line.startswith("a\\")
    assert line.endswith("b")
    assert set(text[0]).isdisjoint(line)
    assert line.encode().decode("unicode_escape").encode("utf-16", "surrogatepass") == (
        f"a{text}b".encode("utf-16", "surrogatepass")
    )


@pytest.mark.parametrize("text", ["", "żółw 日本語 🚲 ❤️", "שלום", "a\\x1b", "é"])
def test_ordinary_text_in_any_language_stays(text: str) -> None:
    assert terminal.printable(text) == text
    assert terminal.printable_lines(text) == text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("::error::x", "\\x3a:error::x"),
        (" \t::add-mask::x", " \\t\\x3a:add-mask::x"),
        ("a ##[error]x", "a #\\x23[error]x"),
        ("##vso[task.setvariable]x", "#\\x23vso[task.setvariable]x"),
        ("std::map", "std::map"),
        ("a #1", "a #1"),
        ("## a", "## a"),
    ],
)
def test_no_name_is_a_command_to_a_build_server(text: str, line: str) -> None:
    assert terminal.printable(text) == line


def test_every_blank_is_a_space() -> None:
    assert terminal.printable("5.00\u202fPM\xa0\u3000") == "5.00 PM  "


@given(st.text(st.characters()))
def test_any_text_is_printable_on_one_line(text: str) -> None:
    line = terminal.printable(text)
    assert line.isprintable()
    assert terminal.printable(line) == line
    lines = terminal.printable_lines(text)
    assert lines.replace("\n", "").replace("\t", "").isprintable()
    assert (lines.count("\n"), lines.count("\t")) == (text.count("\n"), text.count("\t"))


@given(st.text(st.characters()))
def test_any_text_can_be_printed(text: str) -> None:
    file = io.TextIOWrapper(io.BytesIO(), "ascii", "backslashreplace", newline="")
    terminal.print_line(text, text, file=file)
    printed = file.buffer.getvalue()
    assert printed.count(b"\n") == 1
    assert printed.count(b"\t") == 1
    assert min(printed.replace(b"\n", b"").replace(b"\t", b""), default=32) >= 32


def test_a_warning_is_one_printable_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.warn("a server's\n\x1b[31mmessage")
    output = capsys.readouterr()
    assert output.err == "warning: a server's\\n\\x1b[31mmessage\n"
    assert output.out == ""


def test_cells_of_a_table_are_literal(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_table(["[bold]a[/bold]", "b\x1b[2J"], [["[red]x", "\u202ey"], [":car:", "1"]])
    assert capsys.readouterr().out.split() == [
        "[bold]a[/bold]",
        "b\\x1b[2J",
        "[red]x",
        "\\u202ey",
        ":car:",
        "1",
    ]


NAMES = ["\x1b[2J", "a\rb", "a\u202eb", "\x7f", "=1", "-1", 'a"b,c', "tab\t"]


@pytest.mark.parametrize("name", NAMES)
def test_a_program_that_reads_csv_or_json_gets_the_exact_name(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.print_csv([name, -0.5])
    ((cell, number),) = csv.reader(io.StringIO(capsys.readouterr().out))
    assert cell in (name, f"'{name}")
    assert not cell.startswith(("=", "-"))
    assert number == "-0.5"
    terminal.print_json({"path": name})
    line = capsys.readouterr().out
    assert json.loads(line) == {"path": name}
    assert line.rstrip("\n").isprintable()


# The second draws what the progress bars give it; the third runs without the package, and prints
# digests that it has checked.
PRINTERS = (
    "pipeline/core/terminal.py",
    "pipeline/core/status_line.py",
    "pipeline/core/import_guard.py",  # its own sentences, before `terminal` is imported
    "pipeline/commands/export/check_split.py",
)


def test_no_module_prints_but_these() -> None:
    """A name that is printed elsewhere would reach the terminal as it is."""
    offenders = [
        f"{name}:{node.lineno}"
        for path in sorted(ROOT.glob("pipeline/**/*.py"))
        if (name := path.relative_to(ROOT).as_posix()) not in PRINTERS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.expr) and _prints(node)
    ]
    assert offenders == []


def _prints(node: ast.AST) -> bool:
    """Whether a node prints, or is a way to do so."""
    match node:
        case ast.Name(id="print" | "Console"):
            return True
        case ast.Attribute(attr="echo" | "secho" | "showwarning" | "excepthook"):
            return True
        case ast.Attribute(
            value=ast.Attribute(attr="stdout" | "stderr"), attr="write" | "writelines" | "buffer"
        ):
            return True
        case ast.Name(id="status_line"):
            return isinstance(node.ctx, ast.Store)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="sys"), attr="exit"), args=[message]):
            return isinstance(message, ast.JoinedStr) and "printable" not in ast.unparse(message)
    return False


@pytest.mark.parametrize(
    "code",
    [
        "print(x)",
        "typer.echo(x)",
        "sys.stdout.write(x)",
        "sys.stderr.buffer.write(x)",
        "Console().print(x)",
        "sys.exit(f'error: {x}')",
        "show = print",
    ],
)
def test_the_search_for_prints_finds(code: str) -> None:
    assert any(map(_prints, ast.walk(ast.parse(code))))


HOSTILE = "\x1b]0;pwned\x07\u202e\x9b2J\u200b"
FAILING = f"""
import logging, sys, threading, warnings
from pipeline.core import stage
from pipeline.core.errors import PipelineError
from pipeline.core.progress import bar
from pipeline.core.terminal import print_csv, print_json, print_line, print_table, warn

NAME = {HOSTILE!r}

def main(kind: str) -> None:
    if kind == "names":
        print_line(NAME, NAME)
        print_csv([NAME])
        print_json(NAME)
        print_table([NAME], [[NAME]])
        warn(NAME)
        warnings.warn(NAME)
        logging.getLogger(NAME).warning("a server says %s", NAME)
    if kind == "thread":
        thread = threading.Thread(target=main, args=("bug",))
        thread.start()
        thread.join()
    if kind == "sentence":
        raise PipelineError(NAME)
    if kind == "system":
        open(NAME)
    if kind == "bug":
        raise ValueError(NAME)

stage.run(main)
"""


@pytest.mark.parametrize(
    ("arguments", "exit_code", "times"),
    [
        (["names"], 0, 9),
        (["sentence"], 1, 1),
        (["system"], 1, 1),
        (["bug"], 1, 1),
        (["thread"], 0, 1),
        ([f"--{HOSTILE}"], 2, 1),
        (["names", HOSTILE], 2, 1),
    ],
    ids=["names", "sentence", "system", "bug", "thread", "option", "argument"],
)
def test_a_terminal_gets_no_character_of_a_name_that_it_obeys(
    tmp_path: Path, arguments: list[str], exit_code: int, times: int
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "TERM": "dumb"}
    command = [sys.executable, "-c", FAILING, *arguments]
    output, code = run_in_terminal(command, tmp_path, environment)
    assert code == exit_code, output
    text = output.decode().replace("\r\n", "\n")
    assert not set(text) & set(HOSTILE[0] + "\x07\u202e\x9b\u200b\r"), text
    assert text.replace("│\n│", "").replace(" ", "").count("\\x9b2J\\u200b") >= 1, text
    assert text.count("pwned") == times


def test_what_the_encoding_of_the_terminal_lacks_is_an_escape() -> None:
    script = (
        "from pipeline.core import stage, terminal; stage.run(lambda: terminal.print_line('żółw'))"
    )
    process = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
    )
    assert process.stdout == rb"\u017c\xf3\u0142w" + b"\n", process.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://me:p@ss@host/db", "postgresql://host/db"),
        ("https://host/path?token=secret", "https://host/path"),
        ("no URL at all", "no URL at all"),
        ("bob:pw@host", "host"),
        ("bob:p@s/s:w@host:5000/db", "host:5000/db"),
        ("cannot open 'bob:pw@host' or X=bob:pw@host", "cannot open 'host"),
        ("http:/bob:pw@host", "host"),
        ("url: /rest?api_key=secret (Caused by", "url: /rest (Caused by"),
        (r"C:\Users\me@home is no folder", r"C:\Users\me@home is no folder"),
        ("git@host:path, at 12:30", "git@host:path, at 12:30"),
    ],
)
def test_addresses_are_printed_without_passwords_and_queries(text: str, expected: str) -> None:
    assert terminal.without_password(text).startswith(expected)
    assert "pw" not in terminal.without_password(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://bob:pw@host/a.zip?x=1 is gone", "https://host/a.zip?x=1 is gone"),
        ("https://bob:p/w@host/a", "https://host/a"),
        ("https://token@host/a", "https://host/a"),
        ("https://host/a?id=5&api_key=pw#b", "https://host/a?id=5&api_key=...#b"),
        ("https://host/a?X-Amz-Signature=pw&x=2", "https://host/a?X-Amz-Signature=...&x=2"),
        ("https://flickr.com/photos/1@N00/2", "https://flickr.com/photos/1@N00/2"),
        ("photos/a:b@c.jpg?key, mail me@host", "photos/a:b@c.jpg?key, mail me@host"),
    ],
)
def test_sentences_have_no_secrets_of_urls_and_names_of_files_as_they_are(
    text: str, expected: str
) -> None:
    assert terminal.without_secrets(text) == expected


def test_an_error_is_one_short_line() -> None:
    assert terminal.one_line(ValueError("a\n  b " + "x" * 500)) == "a b " + "x" * 196
    assert terminal.one_line(ValueError()) == "ValueError"


@pytest.mark.parametrize(
    ("text", "name"),
    [("../up", "__up"), ("a/b\\c", "a_b_c"), (".hidden", "_hidden"), ("tab\t", "tab_")],
)
def test_a_file_name_leads_to_no_other_folder(text: str, name: str) -> None:
    assert terminal.safe_file_name(text) == name


@given(st.sets(st.text(max_size=4), max_size=6))
def test_different_texts_have_different_file_names(texts: set[str]) -> None:
    names = terminal.distinct_file_names(texts)
    assert names.keys() == texts
    assert len({name.casefold() for name in names.values()}) == len(texts)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/home/ann/photos of 2024", "photos of 2024"),
        ("/home/ann/photos/", "photos"),
        ("../pets.zip", "pets.zip"),
        (r"C:\Users\ann\pets", "pets"),
        ("photos", "photos"),
        ("/", "/"),
        ("https://ann:secret@example.org/a/b.zip?token=1", "https://example.org/a/b.zip"),
        ("s3://bucket/folder", "s3://bucket/folder"),
    ],
)
def test_a_source_has_no_folder_of_a_machine(source: str, name: str) -> None:
    assert terminal.name_source(source) == name
