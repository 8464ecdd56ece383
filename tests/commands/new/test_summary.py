from collections import Counter

import pytest

from pipeline.commands.new.summary import print_counts


def test_two_unicode_forms_of_a_class_are_counted_as_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_counts(Counter({("caf\u00e9", None): 2, ("cafe\u0301", None): 3, ("tea", None): 4}), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "9 images of 2 classes"
    assert [line.split() for line in lines[2:4]] == [["caf\u00e9", "5"], ["tea", "4"]]
