import pytest

from pipeline.commands.new.advice import to_options


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "x.csv has no column, so splits in dataset.toml has no effect",
            "so --split has no effect",
        ),
        ("no image is in 'a', which splits names: did you", "in 'a', which --split names: did"),
        ("no image is in a, which splits of the source names", "in a, which --split names"),
        (
            "no class b, which dataset.toml renames under [labels]: c",
            "b, which --rename renames: c",
        ),
        ("say with pattern or a table where", "say with --pattern or a table where"),
        ("not used, unless table names it", "not used, unless --table names it"),
        ("not used, unless label_column names it", "not used, unless --label-column names it"),
        ("write ignore_splits = true in dataset.toml, and", "give --ignore-splits, and"),
        ("again, or use a copy with -S dataset.source=PATH", "again, or give the path of a copy"),
        ('write labels = {"a|b" = "a|b"} in dataset.toml if', "give --rename 'a|b=a|b' if"),
    ],
)
def test_keys_of_dataset_toml_become_options(message: str, expected: str) -> None:
    assert expected in to_options(message)
