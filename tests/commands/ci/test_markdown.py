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
def test_a_name_is_shown_literally(name: str) -> None:
    escaped = markdown.escape(name)
    bare = "".join(
        part.partition(";")[2] if part[:1].isdigit() else part for part in escaped.split("&#")
    )
    assert not set(bare) & set("|<>`[]*_~@#$&\\\n\r\x1b\u202e")
    assert "://" not in bare
    assert "www." not in bare
    assert ":s" not in bare
    (line,) = markdown.table(["", "n"], [[name, "1"]])[2:]
    assert line.count("|") == 3


def test_plain_text_is_not_escaped() -> None:
    sentence = "No significant difference: -0.5 points (95 %: +0.0 to +0.0); train.lr=0.003"
    assert markdown.escape(sentence) == sentence


def test_a_long_name_does_not_widen_a_table() -> None:
    (line,) = markdown.table([""], [["x" * 500]])[2:]
    assert len(line) < 60


def test_a_command_stays_in_its_code_block() -> None:
    lines = markdown.code("dvc exp run -S 'a.b=\n```\n<b>'")
    assert len(lines) == 3
    assert "\n" not in lines[1]
