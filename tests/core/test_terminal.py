import pytest

from pipeline.core import terminal


def test_a_warning_is_one_printable_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.warn("a server's\n\x1b[31mmessage")
    output = capsys.readouterr()
    assert output.err == "warning: a server's  [31mmessage\n"
    assert output.out == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://me:p@ss@host/db", "postgresql://host/db"),
        ("https://host/path?token=secret", "https://host/path"),
        ("no URL at all", "no URL at all"),
    ],
)
def test_urls_are_printed_without_passwords_and_queries(text: str, expected: str) -> None:
    assert terminal.without_password(text) == expected


def test_an_error_is_one_short_line() -> None:
    assert terminal.one_line(ValueError("a\n  b " + "x" * 500)) == "a b " + "x" * 196
    assert terminal.one_line(ValueError()) == "ValueError"


@pytest.mark.parametrize(
    ("text", "name"),
    [("../up", "__up"), ("a/b\\c", "a_b_c"), (".hidden", "_hidden"), ("tab\t", "tab_")],
)
def test_a_file_name_leads_to_no_other_folder(text: str, name: str) -> None:
    assert terminal.safe_file_name(text) == name
