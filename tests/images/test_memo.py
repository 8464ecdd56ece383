import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.images import memo
from pipeline.images.memo import Memo

SCHEMA = pa.schema({"value": pa.int64()})


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


def results(**values: int) -> pa.RecordBatch:
    rows = [{"key": key, "value": value} for key, value in values.items()]
    return pa.RecordBatch.from_pylist(rows, schema=pa.schema([memo.KEY, *SCHEMA]))


def open_memo(stage: str = "filter", key: str = "key") -> Memo:
    return Memo(stage, key, SCHEMA)


def get_numbers(memo: Memo, keys: list[str]) -> list[int]:
    batch = memo.get(keys)
    assert batch.schema == SCHEMA
    numbers: list[int] = batch.column("value").to_pylist()
    return numbers


def test_results_are_read_by_the_next_process(root: Path) -> None:
    open_memo().add(results(a=1, b=2))
    later = open_memo()
    assert "a" in later
    assert "c" not in later
    assert get_numbers(later, ["b"]) == [2]
    assert (root / ".cache" / "filter" / memo.on_this_machine("key")).is_dir()


def test_get_returns_results_in_the_order_of_its_keys_across_files() -> None:
    known = open_memo()
    known.add(results(a=1, b=2, c=3))
    known.add(results(d=4, e=5))
    assert get_numbers(known, ["e", "a", "d", "c", "a"]) == [5, 1, 4, 3, 1]


@settings(
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_get_returns_the_added_results_from_any_files(data: st.DataObject) -> None:
    files = data.draw(st.lists(st.lists(st.integers(0, 30), min_size=1, unique=True), min_size=1))
    known = open_memo("filter", json.dumps(files).replace(" ", "")[:80])
    for numbers in files:
        known.add(results(**{str(number): number for number in numbers}))
    all_numbers = sorted({number for numbers in files for number in numbers})
    requested = data.draw(st.lists(st.sampled_from(all_numbers), min_size=1))
    assert get_numbers(known, [str(number) for number in requested]) == requested


def test_a_result_that_was_never_added_is_a_bug() -> None:
    with pytest.raises(KeyError, match="unheard"):
        open_memo().get(["unheard"])


def replace_content(path: Path, content: bytes) -> None:
    """As a memo's files are mapped into memory, they are not written in place."""
    path.unlink()
    path.write_bytes(content)


def shift_values(content: bytes) -> bytes:
    """The bytes of a sound file, with other values."""
    return content.replace((1).to_bytes(8, "little"), (7).to_bytes(8, "little"))


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "nothing left": lambda _: b"",
    "half of it": lambda data: data[: len(data) // 2],
    "all but the end": lambda data: data[:-1],
    "zeros": lambda data: bytes(len(data)),
    "other values": shift_values,
    "garbage": lambda data: b"\xff" * len(data),
    "a longer file": lambda data: data + b"\0",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_dropped_with_a_warning_and_the_others_stay(
    capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    first = open_memo()
    first.add(results(a=1))
    (damaged,) = first.directory.iterdir()
    first.add(results(b=2))
    assert DAMAGE[damage](damaged.read_bytes()) != damaged.read_bytes()
    replace_content(damaged, DAMAGE[damage](damaged.read_bytes()))
    later = open_memo()
    assert "a" not in later
    assert not damaged.exists()
    assert get_numbers(later, ["b"]) == [2]
    assert capsys.readouterr().err == (
        f"warning: the memo {first.directory} has 1 damaged file of 2 (such as "
        f"{damaged.name}): the results are computed again\n"
    )
    later.add(results(a=1))
    assert get_numbers(open_memo(), ["a", "b"]) == [1, 2]
    assert capsys.readouterr().err == ""


def test_a_file_with_other_columns_is_damaged(capsys: pytest.CaptureFixture[str]) -> None:
    other = Memo("filter", "key", pa.schema({"value": pa.string()}))
    batch = results(a=1).set_column(1, pa.field("value", pa.string()), pa.array(["1"]))
    other.add(batch)
    assert "a" not in open_memo()
    assert "has 1 damaged file of 1" in capsys.readouterr().err


def test_a_file_that_another_process_removed_is_no_damage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = open_memo()
    first.add(results(a=1))
    (path,) = first.directory.iterdir()
    path.unlink()
    monkeypatch.setattr(Path, "glob", lambda *_: [path])
    assert "a" not in open_memo()
    assert capsys.readouterr().err == ""


def test_results_that_are_only_held_are_not_on_disk() -> None:
    known = open_memo()
    known.hold(results(a=1))
    assert get_numbers(known, ["a"]) == [1]
    assert "a" not in open_memo()


def test_another_processor_has_another_memo(monkeypatch: pytest.MonkeyPatch) -> None:
    open_memo().add(results(a=1))
    with monkeypatch.context() as patch:
        patch.setattr(memo, "_processor", lambda: {"model name": "another"})
        assert "a" not in open_memo()
    with monkeypatch.context() as patch:
        patch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
        assert "a" not in open_memo()
    assert "a" in open_memo()


def test_adding_leaves_only_whole_files() -> None:
    known = open_memo()
    known.add(results(a=1))
    known.add(results(a=1))
    assert [path.suffix for path in known.directory.iterdir()] == [".arrow"]


def test_another_key_or_stage_has_no_results() -> None:
    open_memo().add(results(a=1))
    assert "a" not in open_memo(key="other")
    assert "a" not in open_memo("features")


def test_the_least_recently_used_keys_are_dropped_per_stage(root: Path) -> None:
    for number in range(memo.MAX_KEYS):
        known = open_memo(key=f"key{number}")
        os.utime(known.directory, (number, number))
    open_memo("features")
    open_memo(key="key0")  # used again: key1 is now the oldest
    open_memo(key="new")
    keys = {path.name for path in (root / ".cache" / "filter").iterdir()}
    left = {"key0", "new"} | {f"key{number}" for number in range(2, memo.MAX_KEYS)}
    assert keys == set(map(memo.on_this_machine, left))
    assert (root / ".cache" / "features" / memo.on_this_machine("key")).is_dir()


def test_a_memo_that_was_pruned_meanwhile_can_still_add() -> None:
    known = open_memo()
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
