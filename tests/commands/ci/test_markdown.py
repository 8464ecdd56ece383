import pytest

from pipeline.commands.ci import markdown

NASTY = [
    "a|b",
    "<img src=x onerror=alert(1)>",
    "`code`",
    "[x](javascript:alert(1))",
    "**b** _i_ ~s~",
    "http://example.com",
    "www.example.com",
    ":smile:",
    "@someone #1 a@example.com",
    "$x$",
    "&lt;",
    "\\|",
    "a\nb\r\n| c |",
    "\x1b[31m\u202e",
]


@pytest.mark.parametrize("name", NASTY)
def test_a_name_is_a_name_and_nothing_else(name: str) -> None:
    shown = markdown.escape(name)
    bare = "".join(
        part.partition(";")[2] if part[:1].isdigit() else part for part in shown.split("&#")
    )
    assert not set(bare) & set("|<>`[]*_~@#$&\\\n\r\x1b\u202e")
    assert "://" not in bare
    assert "www." not in bare
    assert ":s" not in bare
    (line,) = markdown.table(["", "n"], [[name, "1"]])[2:]
    assert line.count("|") == 3


def test_what_is_harmless_stays_readable() -> None:
    told = "No difference shown: -0.5 points (95 %: +0.0 to +0.0); train.lr=0.003"
    assert markdown.escape(told) == told


def test_a_long_name_does_not_widen_a_table() -> None:
    (line,) = markdown.table([""], [["x" * 500]])[2:]
    assert len(line) < 60


def test_a_line_for_a_terminal_stays_in_its_block() -> None:
    lines = markdown.code("dvc exp run -S 'a.b=\n```\n<b>'")
    assert len(lines) == 3
    assert "\n" not in lines[1]
