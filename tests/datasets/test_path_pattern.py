import time

import pytest

from pipeline.datasets.path_pattern import MAX_NAME, PathPattern


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("{label}_*", "x/a_b_1.jpg", "a"),
        ("{label}_#", "a_b_1.jpg", "a_b"),
        ("*_{label}", "1_a_b.jpg", "a_b"),
        ("{label}/*", "x/cat/1.jpg", "cat"),
        ("{label}.#.jpg", "cat.1.jpg", "cat"),
        ("/{label}/*", "cat/1.jpg", "cat"),
        ("/{label}/*", "x/cat/1.jpg", None),
        ("{label}(#)", "cat(1).jpg", "cat"),
        ("{label}_#", "cat_x.jpg", None),
        ("{label}_#", "1_1.jpg", None),
    ],
)
def test_a_pattern_finds_the_label(pattern: str, name: str, expected: str | None) -> None:
    assert PathPattern(pattern).find_label(name) == expected


@pytest.mark.parametrize("pattern", ["*", "{label}{label}", "{label}{split}{split}", "{class}_#"])
def test_a_pattern_without_one_label_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="label"):
        PathPattern(pattern)


@pytest.mark.parametrize("text", ["_", "_1", "1", "1_"])
def test_a_hostile_name_takes_no_time(text: str) -> None:
    pattern = PathPattern("*_*_#_*_{label}_#")
    start = time.process_time()
    for length in (MAX_NAME, 1_000_000):
        assert pattern.match((text * length)[: length - 1] + "x") is None
    assert time.process_time() - start < 1


def test_two_stars_are_any_folders() -> None:
    pattern = PathPattern("/a/{label}/**")
    assert [pattern.find_label(name) for name in ("a/x/1.jpg", "a/y/z/1.jpg", "b/x/1.jpg")] == [
        "x",
        "y",
        None,
    ]
    assert PathPattern("{label}/**/1.jpg").find_label("a/b/c/1.jpg") == "a"
