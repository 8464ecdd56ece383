import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.images import memo
from pipeline.images.memo import Memo

SCHEMA = pa.schema({"id": pa.string(), "value": pa.int64()})


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


def results(**values: int) -> pa.RecordBatch:
    rows = [{"id": key, "value": value} for key, value in values.items()]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def get_numbers(memo: Memo, keys: list[str]) -> list[int]:
    numbers: list[int] = memo.get(keys, SCHEMA).column("value").to_pylist()
    return numbers


def test_results_are_read_by_the_next_process(root: Path) -> None:
    Memo("filter", "key").add(results(a=1, b=2))
    later = Memo("filter", "key")
    assert "a" in later
    assert "c" not in later
    assert get_numbers(later, ["b"]) == [2]
    assert (root / ".cache" / "filter" / "key").is_dir()


def test_get_returns_results_in_the_order_of_its_keys_across_files() -> None:
    known = Memo("filter", "key")
    known.add(results(a=1, b=2, c=3))
    known.add(results(d=4, e=5))
    assert get_numbers(known, ["e", "a", "d", "c", "a"]) == [5, 1, 4, 3, 1]


@settings(
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_get_returns_the_added_results_from_any_files(data: st.DataObject) -> None:
    files = data.draw(st.lists(st.lists(st.integers(0, 30), min_size=1, unique=True), min_size=1))
    known = Memo("filter", json.dumps(files).replace(" ", "")[:80])
    for numbers in files:
        known.add(results(**{str(number): number for number in numbers}))
    all_numbers = sorted({number for numbers in files for number in numbers})
    requested = data.draw(st.lists(st.sampled_from(all_numbers), min_size=1))
    assert get_numbers(known, [str(number) for number in requested]) == requested


def test_a_result_that_was_never_added_is_a_bug() -> None:
    with pytest.raises(KeyError, match="unheard"):
        Memo("filter", "key").get(["unheard"], SCHEMA)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.95])
def test_a_damaged_file_is_dropped_and_the_others_stay(fraction: float) -> None:
    first = Memo("filter", "key")
    first.add(results(a=1))
    (damaged,) = first.directory.iterdir()
    first.add(results(b=2))
    data = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(data[: int(len(data) * fraction)])
    later = Memo("filter", "key")
    assert "a" not in later
    assert not damaged.exists()
    assert get_numbers(later, ["b"]) == [2]
    later.add(results(a=1))
    assert get_numbers(Memo("filter", "key"), ["a", "b"]) == [1, 2]


def test_adding_leaves_only_whole_files() -> None:
    known = Memo("filter", "key")
    known.add(results(a=1))
    known.add(results(a=1))
    assert [path.suffix for path in known.directory.iterdir()] == [".arrow"]


def test_another_key_or_stage_has_no_results() -> None:
    Memo("filter", "key").add(results(a=1))
    assert "a" not in Memo("filter", "other")
    assert "a" not in Memo("features", "key")


def test_the_least_recently_used_keys_are_dropped_per_stage(root: Path) -> None:
    for number in range(memo.MAX_KEYS):
        known = Memo("filter", f"key{number}")
        os.utime(known.directory, (number, number))
    Memo("features", "key")
    Memo("filter", "key0")  # used again: key1 is now the oldest
    Memo("filter", "new")
    keys = {path.name for path in (root / ".cache" / "filter").iterdir()}
    assert keys == {"key0", "new"} | {f"key{n}" for n in range(2, memo.MAX_KEYS)}
    assert (root / ".cache" / "features" / "key").is_dir()


def test_a_memo_that_was_pruned_meanwhile_can_still_add() -> None:
    known = Memo("filter", "key")
    known.directory.rmdir()
    known.add(results(a=1))
    assert get_numbers(known, ["a"]) == [1]


VALUES: dict[str, Any] = {"side": 32, "names": ["a", "b"]}
MODULES = ["pipeline.core.stable_hash"]


def test_a_fingerprint_is_the_same_for_the_same_facts() -> None:
    first = memo.fingerprint(VALUES, MODULES, ["numpy", "pillow"])
    reordered = dict(reversed(VALUES.items()))
    assert memo.fingerprint(reordered, MODULES, ["pillow", "numpy"]) == first
    assert len(first) == 20


@pytest.mark.parametrize(
    ("values", "modules", "libraries"),
    [
        (VALUES | {"side": 33}, MODULES, ["numpy"]),
        (VALUES | {"side": 32.0}, MODULES, ["numpy"]),
        (VALUES | {"names": ["b", "a"]}, MODULES, ["numpy"]),
        (VALUES, ["pipeline.core.atomic"], ["numpy"]),
        (VALUES, MODULES, ["numpy", "pillow"]),
    ],
    ids=["value", "type", "order of a list", "code", "libraries"],
)
def test_a_fingerprint_changes_with_every_fact(
    values: dict[str, Any], modules: list[str], libraries: list[str]
) -> None:
    assert memo.fingerprint(values, modules, libraries) != memo.fingerprint(
        VALUES, MODULES, ["numpy"]
    )
