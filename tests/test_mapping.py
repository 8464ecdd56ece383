from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import mapping, shards
from pipeline.mapping import map_images
from pipeline.memo import Memo

SCHEMA = pa.schema({"id": pa.string(), "length": pa.int64()})


@pytest.fixture(autouse=True)
def few_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows to a shard, two to a chunk."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(shards, "ROWS", 3)
    monkeypatch.setattr(mapping, "CHUNK", 2)


class Measure:
    """Length of each image's bytes; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        ids = batch.column("id").to_pylist()
        self.asked.append(ids)
        lengths = [len(data.as_py()) for data in batch.column("bytes")]
        return pa.RecordBatch.from_pydict({"id": ids, "length": lengths}, schema=SCHEMA)


def write(folder: Path, keys: str) -> Path:
    """A shard folder with an image per letter, as long as the letter's place in the alphabet."""
    shards.write(
        folder / "raw",
        shards.RAW,
        [{"id": k, "label": "x", "name": k, "bytes": bytes(ord(k) - ord("a") + 1)} for k in keys],
    )
    return folder / "raw"


def run(
    function: Callable[[pa.RecordBatch], pa.RecordBatch],
    directory: Path,
    only: Container[str] | None = None,
    jobs: int = 1,
    key: str = "key",
) -> list[tuple[list[Any], list[Any], list[Any]]]:
    """Per shard: the ids of its rows, the ids of the results, and the results."""
    mapped = map_images(
        function,
        directory,
        schema=SCHEMA,
        memo=Memo("stage", key),
        title="test",
        only=only,
        jobs=jobs,
    )
    return [
        (rows["id"].to_pylist(), found["id"].to_pylist(), found["length"].to_pylist())
        for rows, found in mapped
    ]


def test_results_come_shard_by_shard_in_the_order_of_the_rows(tmp_path: Path) -> None:
    function = Measure()
    found = run(function, write(tmp_path, "dacfbeg"))
    assert found == [
        (["d", "a", "c"], ["d", "a", "c"], [4, 1, 3]),
        (["f", "b", "e"], ["f", "b", "e"], [6, 2, 5]),
        (["g"], ["g"], [7]),
    ]
    assert function.asked == [["d", "a"], ["c"], ["f", "b"], ["e"], ["g"]]


def test_only_what_the_memo_lacks_is_computed(tmp_path: Path) -> None:
    first, second, third = Measure(), Measure(), Measure()
    run(first, write(tmp_path, "abcd"))
    found = run(second, write(tmp_path, "xaybcd"))
    run(third, write(tmp_path, "xaybcd"))
    assert second.asked == [["x", "y"]]
    assert third.asked == []
    assert found == [
        (["x", "a", "y"], ["x", "a", "y"], [24, 1, 25]),
        (["b", "c", "d"], ["b", "c", "d"], [2, 3, 4]),
    ]


def test_an_image_that_occurs_twice_is_computed_once(tmp_path: Path) -> None:
    function = Measure()
    found = run(function, write(tmp_path, "abaab"))
    assert function.asked == [["a", "b"]]
    assert [lengths for _, _, lengths in found] == [[1, 2, 1], [1, 2]]


def test_only_the_wanted_are_computed_and_yielded(tmp_path: Path) -> None:
    function = Measure()
    found = run(function, write(tmp_path, "abcdefghi"), only={"b", "i", "h", "unheard"})
    assert function.asked == [["b"], ["h", "i"]]
    assert found == [(["b"], ["b"], [2]), (["h", "i"], ["h", "i"], [8, 9])]


def test_nothing_wanted_yields_nothing(tmp_path: Path) -> None:
    assert run(Measure(), write(tmp_path, "abc"), only=set()) == []


def test_two_jobs_give_what_one_gives(tmp_path: Path) -> None:
    # A closure travels to the workers by value; they need not find this file.
    schema = SCHEMA

    def measure(batch: pa.RecordBatch) -> pa.RecordBatch:
        lengths = [len(data.as_py()) for data in batch.column("bytes")]
        return pa.RecordBatch.from_arrays([batch.column("id"), pa.array(lengths)], schema=schema)

    directory = write(tmp_path, "hgfedcbahgx")
    alone = run(measure, directory, jobs=1, key="one")
    assert run(measure, directory, jobs=2, key="two") == alone


def fail_at_f(schema: pa.Schema) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    def function(batch: pa.RecordBatch) -> pa.RecordBatch:
        ids = batch.column("id").to_pylist()
        if "f" in ids:
            raise ArithmeticError("f is too much")
        return pa.RecordBatch.from_pydict({"id": ids, "length": [0] * len(ids)}, schema=schema)

    return function


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failure_comes_through(tmp_path: Path, jobs: int) -> None:
    with pytest.raises(ArithmeticError, match="f is too much"):
        run(fail_at_f(SCHEMA), write(tmp_path, "abcdef"), jobs=jobs)


def test_what_was_finished_before_a_failure_stays_remembered(tmp_path: Path) -> None:
    directory = write(tmp_path, "abcdef")
    with pytest.raises(ArithmeticError):
        run(fail_at_f(SCHEMA), directory)
    again = Measure()
    run(again, directory)
    assert again.asked == [["f"]]


def test_a_caller_who_stops_early_keeps_what_was_finished(tmp_path: Path) -> None:
    directory = write(tmp_path, "abcdef")
    memo = Memo("stage", "key")
    mapped = map_images(Measure(), directory, schema=SCHEMA, memo=memo, title="t", jobs=1)
    next(mapped)
    del mapped
    again = Measure()
    run(again, directory)
    assert {key for asked in again.asked for key in asked} <= set("def")
