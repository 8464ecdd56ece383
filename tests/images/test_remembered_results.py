"""Merging of a memo's files: after kills, beside other processes, and with damage."""

import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.images import key_index, memo_files, remembered_results
from pipeline.images.memo import KEY, Memo
from pipeline.images.memo_files import load_batches

SCHEMA = pa.schema({"value": pa.int64()})
FILES = 4  # that the killed process adds, two results each
CHANGES = ("os.rename", "os.remove")  # audit events: between two, the folder has the same files


@pytest.fixture(autouse=True)
def _few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three files make one."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(memo_files, "FAN_OUT", 3)


def value(number: int) -> int:
    """The result of an image, which stands nowhere else in a file."""
    return 10**12 + number


def results(*numbers: int) -> pa.RecordBatch:
    rows = [{"key": f"image {number}", "value": value(number)} for number in numbers]
    return pa.RecordBatch.from_pylist(rows, schema=pa.schema([KEY, *SCHEMA]))


def open_memo(key: str = "key") -> Memo:
    return Memo("filter", key, SCHEMA)


def remembered(memo: Memo, numbers: list[int]) -> list[int]:
    """Those of `numbers` whose results the memo has; they are right."""
    keys = [f"image {number}" for number in numbers]
    lacks = memo.missing(keys).tolist()
    present = [number for number, is_missing in zip(numbers, lacks, strict=True) if not is_missing]
    if present:
        values = memo.get([f"image {number}" for number in present]).column("value").to_pylist()
        assert values == list(map(value, present))
    return present


def files(memo: Memo) -> list[Path]:
    return sorted(memo.directory.glob("*.arrow"))


def rows_on_disk(memo: Memo) -> int:
    return sum(len(batch) for path in files(memo) for batch in load_batches(path))


def test_many_additions_make_few_files_that_have_all_results() -> None:
    memo = open_memo()
    for number in range(41):
        memo.add(results(number))
    assert len(files(memo)) <= 2 * 4  # fewer than three of 1, 3, 9 and 27 rows each
    assert rows_on_disk(memo) == 41
    for reader in (memo, open_memo()):
        assert remembered(reader, list(range(50))) == list(range(41))


def test_record_batches_and_files_of_a_certain_size_are_not_joined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memo_files, "BATCH_BYTES", 100)
    memo = open_memo()
    for number in range(9):
        memo.add(results(number))
    (path,) = files(memo)
    assert 1 < len(load_batches(path)) < 9
    monkeypatch.setattr(memo_files, "MAX_BYTES", path.stat().st_size)
    for number in range(9, 50):
        memo.add(results(number))
    assert path in files(memo)
    assert max(file.stat().st_size for file in files(memo)) <= 2 * path.stat().st_size
    for reader in (memo, open_memo()):
        assert remembered(reader, list(range(50))) == list(range(50))


# ---- kills ----


def add_until_killed(changes: int, acknowledged: int) -> None:
    """Add results; die before the folder would change once more than `changes` times."""
    left = changes

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in CHANGES and os.environ["DVC_ROOT"] in str(arguments[0]):
            if not left:
                os._exit(9)
            left -= 1

    memo = open_memo()
    sys.addaudithook(count)
    for number in range(FILES):
        memo.add(results(2 * number, 2 * number + 1))
        os.write(acknowledged, b".")
    os._exit(0)


def test_a_kill_at_any_point_loses_no_result_and_the_next_process_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memo_files, "FAN_OUT", 2)  # two merges of one file, and one of two
    context, numbers = multiprocessing.get_context("fork"), list(range(2 * FILES))
    for changes in range(1000):
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / str(changes)))
        with (tmp_path / "acknowledged").open("wb") as file:
            process = context.Process(target=add_until_killed, args=(changes, file.fileno()))
            process.start()
            process.join()
            added = file.seek(0, os.SEEK_END)
        later = open_memo()
        assert set(remembered(later, numbers)) >= set(range(2 * added))
        for number in range(added, FILES + 1):
            later.add(results(2 * number, 2 * number + 1))
        assert remembered(open_memo(), numbers) == numbers
        assert len(files(later)) <= 3
        if process.exitcode == 0:
            break
        assert process.exitcode == 9
    assert changes > 12
    assert capsys.readouterr().err == ""


def test_files_that_a_kill_left_beside_the_merged_one_are_removed_by_the_next_merge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memo = open_memo()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        for number in range(3):
            memo.add(results(number))
    assert len(files(memo)) == 4
    later = open_memo()
    assert remembered(later, [0, 1, 2]) == [0, 1, 2]
    for number in range(3, 6):
        later.add(results(number))
    assert len(files(later)) == 2
    assert rows_on_disk(later) == 6


def test_a_merged_file_that_is_damaged_is_made_up_for_by_those_that_it_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    memo = open_memo()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        for number in range(1, 4):
            memo.add(results(number))
    damage(max(files(memo), key=lambda path: path.stat().st_size), 3)
    assert remembered(open_memo(), [1, 2, 3]) == [1, 2, 3]
    assert "damaged file" in capsys.readouterr().err


# ---- other processes ----


def test_a_reader_goes_on_when_another_process_merges_its_files() -> None:
    writer = open_memo()
    for number in range(2):
        writer.add(results(number))
    has_read, has_not = open_memo(), open_memo()
    assert remembered(has_read, [0, 1]) == [0, 1]
    writer.add(results(2))
    assert len(files(writer)) == 1
    assert remembered(has_read, [0, 1]) == [0, 1]
    assert remembered(has_not, [0, 1, 2]) == [0, 1, 2]
    for reader, number in ((has_read, 3), (has_not, 4)):
        reader.add(results(number))
    assert remembered(open_memo(), list(range(6))) == list(range(5))


operations = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.booleans()), max_size=60)


@settings(
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(operations)
def test_several_memos_of_one_folder_lose_nothing_in_any_order_of_work(
    capsys: pytest.CaptureFixture[str], steps: list[tuple[int, int, bool]]
) -> None:
    key = str(steps)
    memos = [open_memo(key) for _ in range(3)]
    own: list[set[int]] = [set(), set(), set()]
    for who, number, is_addition in steps:
        if is_addition:
            memos[who].add(results(number))
            own[who].add(number)
        else:
            assert set(remembered(memos[who], list(range(31)))) >= own[who]
    everything = sorted(set.union(*own))
    assert remembered(open_memo(key), list(range(31))) == everything
    assert capsys.readouterr().err == ""


def test_while_another_process_merges_files_are_only_added(tmp_path: Path) -> None:
    from filelock import FileLock

    memo = open_memo()
    with FileLock(memo.directory / remembered_results.LOCK):
        for number in range(5):
            memo.add(results(number))
        assert len(files(memo)) == 5
    memo.add(results(5))
    assert len(files(memo)) < 5
    assert remembered(memo, list(range(6))) == list(range(6))


# ---- damage ----


def damage(path: Path, number: int) -> None:
    """Change a result, not a key."""
    content = path.read_bytes()
    old, new = (value(n).to_bytes(8, "little") for n in (number, 77))
    assert old in content
    path.unlink()
    path.write_bytes(content.replace(old, new))


def test_a_damaged_result_is_not_merged(capsys: pytest.CaptureFixture[str]) -> None:
    memo = open_memo()
    memo.add(results(5))
    damage(files(memo)[0], 5)
    memo.add(results(6))
    later = open_memo()
    later.add(results(7))  # the third file
    assert "has 1 damaged file of 3" in capsys.readouterr().err
    assert remembered(later, [5, 6, 7]) == [6, 7]
    assert remembered(open_memo(), [5, 6, 7]) == [6, 7]


def test_only_files_whose_results_are_used_are_hashed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    writer = open_memo()
    writer.add(results(5))
    damage(files(writer)[0], 5)
    writer.add(results(6))
    later = open_memo()
    assert remembered(later, [6]) == [6]
    assert capsys.readouterr().err == ""
    assert remembered(later, [5, 6]) == [6]
    assert "has 1 damaged file of 2" in capsys.readouterr().err


def test_a_damaged_key_is_seen_when_the_memo_is_opened(capsys: pytest.CaptureFixture[str]) -> None:
    memo = open_memo()
    memo.add(results(5))
    (path,) = files(memo)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content.replace(b"image 5", b"image 6"))
    assert remembered(open_memo(), [5, 6]) == []
    assert "has 1 damaged file of 1" in capsys.readouterr().err


# ---- equal digests ----


@pytest.fixture(params=[1, 2])
def _few_digests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def digest_keys(keys: pa.Array) -> key_index.UInt64Array:
        lengths = [len(key) % request.param for key in keys.to_pylist()]
        return np.array(lengths, np.uint64)

    for module in (memo_files, remembered_results):
        monkeypatch.setattr(module, "digest_keys", digest_keys)


@pytest.mark.usefixtures("_few_digests")
def test_keys_with_equal_digests_have_their_own_results() -> None:
    memo = open_memo()
    for number in range(0, 40, 2):
        memo.add(results(number))
    memo.hold(results(41))
    numbers = list(range(45))
    assert remembered(memo, numbers) == [*range(0, 40, 2), 41]
    assert remembered(open_memo(), numbers) == list(range(0, 40, 2))
