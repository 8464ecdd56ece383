import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import joblib
import pyarrow as pa
import pytest

from pipeline.core import columns, progress, shards
from pipeline.core.errors import PipelineError
from pipeline.core.shards import writer
from pipeline.images import mapping
from pipeline.images.chunk_runs import Chunk, Isolation, take
from pipeline.images.key_index import KeySet
from pipeline.images.mapping import map_images
from pipeline.images.memo import Memo
from pipeline.images.sandbox import PROCESS_STATUS, deadline
from tests.builders.clean_rows import clean_row
from tests.builders.damage import zero_bytes_of

SCHEMA = pa.schema({"id": pa.string(), "length": pa.int64()})


@pytest.fixture(autouse=True)
def few_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows to a shard, two to a chunk."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(writer, "ROWS", 3)
    monkeypatch.setattr(mapping, "CHUNK", 2)


def test_nothing_is_remembered_of_a_clean_image_that_the_disk_has_damaged(tmp_path: Path) -> None:
    """A memo is keyed by the digest that the shard states."""
    clean = tmp_path / "clean"
    shards.write(clean, shards.CLEAN, [clean_row(key, key.encode() * 9) for key in "ab"])
    zero_bytes_of(b"b" * 9, clean)
    with pytest.raises(PipelineError, match=r"has changed on disk: `pipeline doctor --repair`"):
        run(Measure(), clean)
    shards.write(clean, shards.CLEAN, [clean_row(key, key.encode() * 9) for key in "ab"])
    measure = Measure()
    assert run(measure, clean) == [(["a", "b"], ["a", "b"], [9, 9])]
    assert measure.calls == [["a", "b"]]


class Measure:
    """Measure the length of each image's bytes; record the ids of each call."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        ids = batch.column("id").to_pylist()
        self.calls.append(ids)
        lengths = [len(data.as_py()) for data in batch.column("bytes")]
        return pa.RecordBatch.from_pydict({"id": ids, "length": lengths}, schema=SCHEMA)


def write(folder: Path, keys: str) -> Path:
    """A shard folder with an image per letter; its length is the letter's index in the alphabet."""
    shards.write(
        folder / "raw",
        shards.RAW,
        [{"id": k, "label": "x", "name": k, "bytes": bytes(ord(k) - ord("a") + 1)} for k in keys],
    )
    return folder / "raw"


def run(
    function: Callable[[pa.RecordBatch], pa.RecordBatch],
    directory: Path,
    only: Collection[str] | None = None,
    jobs: int = 1,
    key: str = "key",
    isolation: Isolation | None = None,
) -> list[tuple[list[Any], list[Any], list[Any]]]:
    """For each yielded slice: the ids of the rows, the ids of the results, and the lengths."""
    mapped = map_images(
        function,
        directory,
        memo=Memo("stage", key, SCHEMA),
        title="test",
        only=None if only is None else key_set(only),
        jobs=jobs,
        isolation=isolation,
    )
    return [
        (rows["id"].to_pylist(), results["id"].to_pylist(), results["length"].to_pylist())
        for rows, results in mapped
    ]


def key_set(keys: Collection[str]) -> KeySet:
    return KeySet(columns.texts(list(keys)))


def slices(keys: str) -> list[list[str]]:
    """The slices of shards of three rows: two rows, then one."""
    starts = range(0, len(keys), 3)
    parts = [part for s in starts for part in (keys[s : s + 2], keys[s + 2 : s + 3])]
    return [list(part) for part in parts if part]


def test_results_come_in_chunks_in_the_order_of_the_rows(tmp_path: Path) -> None:
    function = Measure()
    batches = run(function, write(tmp_path, "dacfbeg"))
    assert batches == [
        (["d", "a"], ["d", "a"], [4, 1]),
        (["c"], ["c"], [3]),
        (["f", "b"], ["f", "b"], [6, 2]),
        (["e"], ["e"], [5]),
        (["g"], ["g"], [7]),
    ]
    assert function.calls == [["d", "a"], ["c"], ["f", "b"], ["e"], ["g"]]


def test_only_images_that_are_not_in_the_memo_are_computed(tmp_path: Path) -> None:
    first, second, third = Measure(), Measure(), Measure()
    run(first, write(tmp_path, "abcd"))
    batches = run(second, write(tmp_path, "xaybcd"))
    run(third, write(tmp_path, "xaybcd"))
    assert second.calls == [["x", "y"]]
    assert third.calls == []
    assert batches == [
        (["x", "a"], ["x", "a"], [24, 1]),
        (["y"], ["y"], [25]),
        (["b", "c"], ["b", "c"], [2, 3]),
        (["d"], ["d"], [4]),
    ]


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("only", [None, set("abdeij"), set("b")])
def test_at_most_a_chunk_is_yielded_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, only: set[str] | None
) -> None:
    monkeypatch.setattr(mapping, "CHUNK", chunk)
    monkeypatch.setattr(writer, "ROWS", 5)
    directory = write(tmp_path, "abcdeafghij")
    for _ in range(2):  # computed, then read from the memo
        batches = run(Measure(), directory, only=only)
        assert all(0 < len(ids) <= chunk for ids, _, _ in batches)
        yielded = [key for ids, _, _ in batches for key in ids]
        assert yielded == [key for key in "abcdeafghij" if only is None or key in only]
        for ids, results, lengths in batches:
            assert ids == results
            assert lengths == [ord(key) - ord("a") + 1 for key in ids]


def test_an_image_that_occurs_twice_is_computed_once(tmp_path: Path) -> None:
    function = Measure()
    batches = run(function, write(tmp_path, "abaab"))
    assert function.calls == [["a", "b"]]
    assert [lengths for _, _, lengths in batches] == [[1, 2], [1], [1, 2]]


def test_only_limits_the_images_that_are_computed_and_yielded(tmp_path: Path) -> None:
    function = Measure()
    batches = run(function, write(tmp_path, "abcdefghi"), only={"b", "i", "h", "unheard"})
    assert function.calls == [["b"], ["h", "i"]]
    assert batches == [(["b"], ["b"], [2]), (["h", "i"], ["h", "i"], [8, 9])]


def test_a_function_reads_ids_and_bytes_alone(tmp_path: Path) -> None:
    names = []

    def function(batch: pa.RecordBatch) -> pa.RecordBatch:
        names.append(batch.schema.names)
        return Measure()(batch)

    run(function, write(tmp_path, "abc"))
    assert names == [["id", "bytes"]] * 2


def test_other_bytes_under_the_same_id_are_computed_again(tmp_path: Path) -> None:
    def write_clean(data: bytes) -> Path:
        shards.write(tmp_path / "clean", shards.CLEAN, [clean_row("a", data)])
        return tmp_path / "clean"

    lengths = [run(Measure(), write_clean(data))[0][2] for data in (b"1", b"22", b"1")]
    assert lengths == [[1], [2], [1]]


def test_an_empty_only_yields_nothing(tmp_path: Path) -> None:
    assert run(Measure(), write(tmp_path, "abc"), only=set()) == []


def test_two_jobs_give_the_results_of_one(tmp_path: Path) -> None:
    # A closure is pickled by value; the workers need not import this file.
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


def test_results_before_a_failure_stay_in_the_memo(tmp_path: Path) -> None:
    directory = write(tmp_path, "abcdef")
    with pytest.raises(ArithmeticError):
        run(fail_at_f(SCHEMA), directory)
    again = Measure()
    run(again, directory)
    assert again.calls == [["f"]]


def test_a_caller_that_stops_early_keeps_the_finished_results(tmp_path: Path) -> None:
    directory = write(tmp_path, "abcdef")
    memo = Memo("stage", "key", SCHEMA)
    mapped = map_images(Measure(), directory, memo=memo, title="t", jobs=1)
    next(mapped)
    del mapped
    again = Measure()
    run(again, directory)
    assert {key for calls in again.calls for key in calls} <= set("def")


# ---- isolation: with real processes, which take most of a second each to start ----


MEGABYTES = 500
needs_status = pytest.mark.skipif(
    not PROCESS_STATUS.exists(), reason="only Linux says how much memory a process has"
)
ISOLATION = Isolation(lambda key: {"id": key, "length": -1}, MEGABYTES * 10**6)


allocations: list[bytes] = []  # memory that a worker holds until its batch ends


def measure_or_die(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Measure lengths; some letters crash the worker, stall it, or exhaust its memory."""
    allocations.clear()
    ids = batch.column("id").to_pylist()
    lengths = [
        _measure_or_die(key, len(data.as_py()))
        for key, data in zip(ids, batch["bytes"], strict=True)
    ]
    return pa.RecordBatch.from_pydict({"id": ids, "length": lengths}, schema=SCHEMA)


def _measure_or_die(key: str, length: int) -> int:
    match key:
        case "k":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "x":
            os._exit(1)
        case "l":
            with deadline(0.3):
                while True:
                    pass
        case "m" | "o" | "r" | "h":
            return _exhaust_memory(key, length)
        case "w":
            os.write(2, b"libpng error: bad adaptive filter value\n")
        case "f":
            raise ArithmeticError("f is too much")
    return length


def _exhaust_memory(key: str, length: int) -> int:
    size = 2 * MEGABYTES * 10**6
    match key:
        case "m":
            try:
                return len(bytes(size))
            except MemoryError:
                return -2
        case "o":
            bytes(size)
        case "r":
            pa.allocate_buffer(size)
        case "h":
            allocations.append(bytes(size // 6))
    return length


def map_to_process_id(batch: pa.RecordBatch) -> pa.RecordBatch:
    ids = batch.column("id").to_pylist()
    return pa.RecordBatch.from_pydict(
        {"id": ids, "length": [os.getpid()] * len(ids)}, schema=SCHEMA
    )


def length(key: str) -> int:
    """The result of `measure_or_die` for an image."""
    deadly = {"k": -1, "x": -1, "l": -1, "o": -1, "r": -1, "m": -2}
    return deadly.get(key, ord(key) - ord("a") + 1)


def assert_results(batches: list[tuple[list[Any], list[Any], list[Any]]], keys: str) -> None:
    assert batches == [(ids, ids, [length(key) for key in ids]) for ids in slices(keys)]


def test_an_image_that_kills_its_worker_is_lost_alone_and_tried_again_in_the_next_run(
    tmp_path: Path,
) -> None:
    directory = write(tmp_path, "dakbc")
    assert_results(run(measure_or_die, directory, jobs=2, isolation=ISOLATION), "dakbc")
    again = Measure()
    (_, _, lengths), *_ = run(again, directory)
    assert again.calls == [["k"]]
    assert lengths == [4, 1]


def test_a_stand_in_serves_all_passes_with_one_memo(tmp_path: Path) -> None:
    directory, memo, again = write(tmp_path, "dak"), Memo("stage", "key", SCHEMA), Measure()
    for function in (measure_or_die, again):
        mapped = map_images(function, directory, memo=memo, title="t", isolation=ISOLATION)
        assert [results["length"].to_pylist() for _, results in mapped] == [[4, 1], [-1]]
    assert again.calls == []


def test_the_other_images_of_a_chunk_survive_every_kind_of_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping, "CHUNK", 10)
    monkeypatch.setattr(writer, "ROWS", 10)
    batches = run(measure_or_die, write(tmp_path, "kaxlbkc"), isolation=ISOLATION)
    ids = list("kaxlbkc")
    assert batches == [(ids, ids, [length(key) for key in ids])]


def test_the_other_images_survive_kills_in_several_chunks(tmp_path: Path) -> None:
    directory = write(tmp_path, "akbx")
    assert_results(run(measure_or_die, directory, jobs=2, isolation=ISOLATION), "akbx")


@needs_status
def test_a_worker_gets_a_memory_error_and_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOG_DELAY", 600)  # a busy machine takes long enough for a line
    directory = write(tmp_path, "amwb")
    assert_results(run(measure_or_die, directory, isolation=ISOLATION), "amwb")
    assert capfd.readouterr().err == ""


@needs_status
@pytest.mark.parametrize("greedy", "or")  # through Python, and through Arrow
def test_an_image_that_exhausts_the_memory_is_lost_alone(tmp_path: Path, greedy: str) -> None:
    directory = write(tmp_path, f"a{greedy}b")
    assert_results(run(measure_or_die, directory, isolation=ISOLATION), f"a{greedy}b")


@needs_status
def test_images_that_exceed_the_memory_only_together_all_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping, "CHUNK", 10)
    monkeypatch.setattr(writer, "ROWS", 10)
    ids = [*"abcd", *(f"h{number}" for number in range(4))]
    rows = [{"id": key, "label": "x", "name": key, "bytes": bytes(len(key))} for key in ids]
    shards.write(tmp_path / "raw", shards.RAW, rows)

    ((_, _, batches),) = run(hold_all, tmp_path / "raw", isolation=ISOLATION)
    assert batches == [len(key) for key in ids]


def hold_all(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A third of the memory for each image whose id begins with h."""
    ids = batch.column("id").to_pylist()
    try:
        for key in ids:
            _measure_or_die(key[0] if key[0] == "h" else "", 0)
    finally:
        allocations.clear()  # for the next limit, which counts from what its worker has
    lengths = [len(data.as_py()) for data in batch["bytes"]]
    return pa.RecordBatch.from_pydict({"id": ids, "length": lengths}, schema=SCHEMA)


@needs_status
def test_images_that_are_retried_one_by_one_are_stored_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping, "CHUNK", 10)
    monkeypatch.setattr(writer, "ROWS", 10)
    directory = write(tmp_path, "aobfc")
    with pytest.raises(ArithmeticError, match="f is too much"):
        run(measure_or_die, directory, isolation=ISOLATION)
    again = Measure()
    run(again, directory)
    assert again.calls == [["o", "f", "c"]]


def test_without_isolation_running_out_of_memory_ends_the_run(tmp_path: Path) -> None:
    def greedy(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise MemoryError

    with pytest.raises(MemoryError):
        run(greedy, write(tmp_path, "ab"))


@pytest.mark.parametrize("isolation", [None, ISOLATION], ids=["open", "isolated"])
def test_workers_resolve_relative_folders_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolation: Isolation | None
) -> None:
    for name, keys in (("one", "abcdeg"), ("two", "ckbegh")):
        (tmp_path / name).mkdir()
        write(tmp_path / name, keys)
    batches = []
    for name in ("one", "two"):  # in the same workers
        monkeypatch.chdir(tmp_path / name)
        function = measure_or_die if isolation else map_to_length
        batches.append(run(function, Path("raw"), jobs=2, key=name, isolation=isolation))
    assert_results(batches[0], "abcdeg")
    if isolation:
        assert_results(batches[1], "ckbegh")
    else:
        assert [ids for ids, _, _ in batches[1]] == slices("ckbegh")
        assert [lengths for _, _, lengths in batches[1]] == [[3, 11], [2], [5, 7], [8]]


def map_to_length(batch: pa.RecordBatch) -> pa.RecordBatch:
    return Measure()(batch)


@pytest.mark.parametrize("jobs", [1, 2, -1])
@pytest.mark.parametrize("keys", ["a", "abcdefg"])
def test_one_chunk_is_isolated_like_many(tmp_path: Path, keys: str, jobs: int) -> None:
    batches = run(map_to_process_id, write(tmp_path, keys), jobs=jobs, isolation=ISOLATION)
    assert os.getpid() not in {process for _, _, processes in batches for process in processes}


def test_a_failure_comes_through_isolation(tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError, match="f is too much"):
        run(measure_or_die, write(tmp_path, "abcdef"), isolation=ISOLATION)


def test_without_isolation_a_killed_worker_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(BrokenProcessPool):
        run(measure_or_die, write(tmp_path, "abk"), jobs=2)


def test_a_backend_in_this_process_does_not_confine_it(tmp_path: Path) -> None:
    def linger(batch: pa.RecordBatch) -> pa.RecordBatch:
        with deadline(0.05):
            time.sleep(0.1)
        return map_to_process_id(batch)

    with joblib.parallel_config("threading"):
        batches = run(linger, write(tmp_path, "abc"), isolation=ISOLATION)
    assert batches == [(ids, ids, [os.getpid()] * len(ids)) for ids in slices("abc")]


def test_results_in_the_memo_need_no_worker(tmp_path: Path) -> None:
    directory = write(tmp_path, "abcd")
    expected = run(Measure(), directory)
    assert run(Measure(), directory, isolation=ISOLATION) == expected


def test_a_failure_in_the_next_chunk_keeps_the_results_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "ROWS", 40)

    def fail(places: Sequence[Chunk], sizes: Iterator[int]) -> Iterator[pa.RecordBatch]:
        (path, rows), *_ = places
        batch = take(path, rows)
        yield Measure()(batch.slice(0, next(sizes)))
        next(sizes)
        raise ValueError("broken")

    keys = {f"{n:03d}" for n in range(40)}
    shards.write(
        tmp_path / "raw",
        shards.RAW,
        [{"id": key, "label": "x", "name": "x", "bytes": b"x"} for key in sorted(keys)],
    )
    results = Memo("lengths", "key", SCHEMA)
    with pytest.raises(ValueError, match="broken"):
        mapping.remember(fail, tmp_path / "raw", results, title="t", only=key_set(keys), most=64)
    again = Memo("lengths", "key", SCHEMA)  # as the next process opens it
    assert [key in again for key in sorted(keys)] == [True] * 16 + [False] * 24


@pytest.mark.parametrize(
    ("seconds_per_image", "chunk_sizes"),
    [
        (0.0, [16, 48, 64, 64, 8]),  # fast: chunks grow to the maximum
        (0.25, [16] * 12 + [8]),
        (2.0, [16, 2]),  # slow: a kill loses few results
        (16.0, [16, 1]),
    ],
)
def test_slow_images_are_stored_in_small_chunks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds_per_image: float,
    chunk_sizes: list[int],
) -> None:
    clock = [0.0]
    monkeypatch.setattr(writer, "ROWS", 200)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    shards.write(
        tmp_path / "raw",
        shards.RAW,
        [{"id": f"{n:03d}", "label": "x", "name": "x", "bytes": b"x"} for n in range(200)],
    )
    measure = Measure()

    def slow(places: Sequence[Chunk], sizes: Iterator[int]) -> Iterator[pa.RecordBatch]:
        batches = [take(path, rows) for path, rows in places]
        table, start = pa.Table.from_batches(batches), 0
        for size in sizes:
            clock[0] += seconds_per_image * size
            yield measure(table.slice(start, size).combine_chunks().to_batches()[0])
            start += size

    ids = {f"{n:03d}" for n in range(200)}
    results = Memo("lengths", "key", SCHEMA)
    mapping.remember(slow, tmp_path / "raw", results, title="t", only=key_set(ids), most=64)
    call_sizes = [len(ids) for ids in measure.calls]
    assert call_sizes[: len(chunk_sizes)] == chunk_sizes
    assert set(call_sizes[len(chunk_sizes) :]) <= {chunk_sizes[-1]}
    assert all(key in results for key in ids)
