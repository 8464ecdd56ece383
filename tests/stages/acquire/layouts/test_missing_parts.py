import pytest

from pipeline.stages.acquire.layouts.missing_parts import describe_missing_parts


@pytest.mark.parametrize(
    ("names", "notes"),
    [
        (["data/train-00000-of-00002-ab.parquet", "data/train-00001-of-00002-cd.parquet"], []),
        (["a-1-of-2.parquet", "a-2-of-2.parquet", "b.parquet"], []),
        (
            ["train-00000-of-00002.parquet", "test-00000-of-00001.parquet"],
            ["1 of 2 parts is not there, such as train-00001-of-00002"],
        ),
        (
            ["train-00003-of-00009.parquet"],
            [
                "8 of 9 parts are not there, such as train-00000-of-00009, train-00001-of-00009, "
                "train-00002-of-00009"
            ],
        ),
    ],
)
def test_parts_that_are_not_there_are_named(names: list[str], notes: list[str]) -> None:
    assert describe_missing_parts(names) == notes
