import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from functools import partial

import psutil
import pytest

from pipeline.images.isolated_pool import (
    IsolatedFunction,
    IsolatedPool,
    isolated_map,
    worker_failures,
)

MEMORY = 500_000_000


@pytest.fixture
def pool() -> Iterator[IsolatedPool]:
    with IsolatedPool(2) as pool:
        yield pool


def split(chunk: list[str]) -> list[list[str]]:
    return [[image] for image in chunk]


def stand_in(chunk: list[str]) -> list[str]:
    return [f"{image} broke" for image in chunk]


def upper_or_die(chunk: list[str]) -> list[str]:
    """Upper case; but k kills the worker, m needs too much memory and e has a bug."""
    if "k" in chunk:
        os.kill(os.getpid(), signal.SIGKILL)
    if "m" in chunk:
        raise MemoryError
    if "e" in chunk:
        raise ArithmeticError("e has a bug")
    return [image.upper() for image in chunk]


FUNCTION = IsolatedFunction(upper_or_die, MEMORY, split, stand_in)


def results(pool: IsolatedPool, *chunks: str) -> list[list[list[str]]]:
    return [list(parts) for parts in pool.map(FUNCTION, map(list, chunks))]


def test_a_failed_chunk_has_one_result_per_image(pool: IsolatedPool) -> None:
    assert results(pool, "ab") == [[["A", "B"]]]
    # A chunk in progress beside the one that fails may be retried too.
    parts = results(pool, "ab", "ckd", "f")
    assert [[image for result in part for image in result] for part in parts] == [
        ["A", "B"],
        ["C", "k broke", "D"],
        ["F"],
    ]
    assert parts[1] == [["C"], ["k broke"], ["D"]]


def test_results_are_in_order_whatever_fails(pool: IsolatedPool) -> None:
    chunks = ["a", "bk", "c", "d", "mf", "g", "k", "", "h", *"ijl" * 20]
    images = [image for parts in results(pool, *chunks) for part in parts for image in part]
    expected = [f"{image} broke" if image in "km" else image.upper() for image in "".join(chunks)]
    assert images == expected


def test_an_error_of_the_function_comes_through_after_the_results_before_it(
    pool: IsolatedPool,
) -> None:
    parts = pool.map(FUNCTION, [["a"], ["e"], ["b"]])
    assert list(next(parts)) == [["A"]]
    with pytest.raises(ArithmeticError, match="e has a bug"):
        next(parts)
    assert results(pool, "c") == [[["C"]]]


def test_a_caller_that_stops_early_can_map_again(pool: IsolatedPool) -> None:
    parts = pool.map(FUNCTION, [["a"]] * 50)
    next(parts)
    del parts
    assert results(pool, "c") == [[["C"]]]


def test_isolated_map_works_with_any_map() -> None:
    """With a map that takes all chunks at once, as joblib's backend does."""

    def run_here(function, chunks):  # type: ignore[no-untyped-def]
        ready = list(chunks)
        with worker_failures():
            yield from map(function, ready)

    parts = isolated_map(FUNCTION, [["a"], ["b", "m"], ["c"]], run_here)
    assert [list(part) for part in parts] == [[["A"]], [["B"], ["m broke"]], [["C"]]]


def test_a_worker_calls_the_initializer(tmp_path: os.PathLike[str]) -> None:
    with IsolatedPool(1, partial(os.mkdir, os.path.join(tmp_path, "prepared"))) as pool:  # noqa: PTH118
        pool.start()
        pool.wait()
        assert os.listdir(tmp_path) == ["prepared"]  # noqa: PTH208


PARENT = """
import os, sys, time
from pipeline.images.isolated_pool import IsolatedPool

if __name__ == "__main__":
    pool = IsolatedPool(2)
    print(next(pool.run(os.getpgid, [0])), flush=True)
    time.sleep(60)
"""


def test_workers_end_when_their_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        workers = psutil.Process(parent.pid).children(recursive=True)
        assert len(workers) >= 2
        parent.kill()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive


def test_closing_ends_the_workers() -> None:
    pool = IsolatedPool(2)
    (pid,) = pool.run(_process_id, [0])
    pool.close()
    for _ in range(100):
        if not psutil.pid_exists(pid):
            return
        time.sleep(0.05)
    pytest.fail("a worker is alive")


def _process_id(_: int) -> int:
    return os.getpid()


@pytest.mark.parametrize("first", [0, 5])
def test_an_error_of_the_chunks_themselves_is_not_taken_for_a_workers(
    pool: IsolatedPool, first: int
) -> None:
    def chunks() -> Iterator[list[str]]:
        yield from [["a"]] * first
        raise MemoryError("this process has too little memory to read the next chunk")

    with pytest.raises(MemoryError, match="this process"):
        deque(map(list, pool.map(FUNCTION, chunks())), maxlen=0)
