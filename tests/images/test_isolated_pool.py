import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import psutil
import pytest

from pipeline.core.errors import PipelineError
from pipeline.images import isolated_pool, worker
from pipeline.images.isolated_pool import IsolatedFunction, IsolatedPool, isolated_map
from pipeline.images.sandbox import PROCESS_STATUS
from pipeline.images.worker import Cause, WorkerFailure

MEMORY = 500_000_000


@pytest.fixture
def pool() -> Iterator[IsolatedPool]:
    with IsolatedPool(2) as pool:
        yield pool


def split(chunk: list[str]) -> list[list[str]]:
    return [[image] for image in chunk]


def stand_in(chunk: list[str]) -> list[str]:
    return [f"{image} broke" for image in chunk]


def name(chunk: list[str]) -> str:
    return f"image {chunk[0]}"


def upper_or_die(chunk: list[str]) -> list[str]:
    """Upper case; but k crashes the worker, m needs too much memory and e has a bug."""
    if "k" in chunk:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "m" in chunk:
        raise MemoryError
    if "e" in chunk:
        raise ArithmeticError("e has a bug")
    return [image.upper() for image in chunk]


FUNCTION = IsolatedFunction(upper_or_die, MEMORY, split, stand_in, name)


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
        for chunk in list(chunks):
            try:
                yield function(chunk)
            except MemoryError:
                yield WorkerFailure(Cause.MACHINE, "too little memory")

    parts = isolated_map(FUNCTION, [["a"], ["b", "m"], ["c"]], run_here)
    assert [list(part) for part in parts] == [[["A"]], [["B"], ["m broke"]], [["C"]]]


# ---- what is nobody's fault ----


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> int:
    """The number of tries, without pauses between them."""
    monkeypatch.setattr(isolated_pool, "PAUSES", (0.0, 0.0))
    return 3


def kill_at_first(folder: str, deaths: int, number: int, chunk: list[str]) -> list[str]:
    """Upper case; but for k, the worker is ended by a signal as often as `deaths` says."""
    if "k" in chunk:
        count = len(os.listdir(folder))  # noqa: PTH208
        if count < deaths:
            os.mkdir(os.path.join(folder, str(count)))  # noqa: PTH102, PTH118
            os.kill(os.getpid(), number)
    return [image.upper() for image in chunk]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_image_whose_worker_is_killed_from_outside_keeps_its_result(
    pool: IsolatedPool, pauses: int, tmp_path: os.PathLike[str], number: int
) -> None:
    function = partial(kill_at_first, str(tmp_path), pauses, number)
    isolated = IsolatedFunction(function, MEMORY, split, stand_in, name)
    parts = list(map(list, pool.map(isolated, [["a"], ["b", "k"], ["c"]])))
    assert parts == [[["A"]], [["B"], ["K"]], [["C"]]]
    assert len(os.listdir(tmp_path)) == pauses  # noqa: PTH208


def test_kills_without_end_are_the_machines_fault(
    pool: IsolatedPool, pauses: int, tmp_path: os.PathLike[str]
) -> None:
    function = partial(kill_at_first, str(tmp_path), 1000, signal.SIGKILL)
    isolated = IsolatedFunction(function, MEMORY, split, stand_in, name)
    parts = pool.map(isolated, [["a"], ["b", "k"], ["c"]])
    assert list(next(parts)) == [["A"]]
    tries = next(parts)
    assert next(tries) == ["B"]
    with pytest.raises(PipelineError, match=r"3 times .*image k.* SIGKILL.*short of memory"):
        next(tries)


def crash_if_second(chunk: list[str]) -> list[str]:
    """The first image damages the memory of its process, and the second one dies of it."""
    if os.environ.get("DAMAGED"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if "d" in chunk:
        os.environ["DAMAGED"] = "yes"
    return [image.upper() for image in chunk]


def test_an_image_is_not_blamed_for_a_crash_that_another_one_caused() -> None:
    isolated = IsolatedFunction(crash_if_second, MEMORY, split, stand_in, name)

    def fail_once(function, chunks):  # type: ignore[no-untyped-def]
        for _ in chunks:
            yield WorkerFailure(Cause.CRASH, "it was ended by SIGSEGV")

    (parts,) = isolated_map(isolated, [["d", "a", "b"]], fail_once)
    assert list(parts) == [["D"], ["A"], ["B"]]


def cannot_start() -> None:
    raise RuntimeError("no thread is left")


class CannotBeLoaded:
    def __reduce__(self) -> tuple[object, ...]:
        return __import__, ("a_library_that_is_not_there",)


def crash_while_loading() -> None:
    os.kill(os.getpid(), signal.SIGILL)  # as a library does that was built for other processors


def test_workers_that_cannot_start_blame_no_image(pauses: int) -> None:
    with (
        IsolatedPool(2, cannot_start) as pool,
        pytest.raises(PipelineError, match=r"cannot work here .*no thread is left"),
    ):
        results(pool, "ab", "c")
    function: partial[list[str]] = partial(upper_or_die, CannotBeLoaded())  # type: ignore[arg-type]
    broken = IsolatedFunction(function, MEMORY, split, stand_in, name)
    with (
        IsolatedPool(2) as pool,
        pytest.raises(PipelineError, match=r"cannot work here .*a_library_that_is_not_there"),
    ):
        deque(map(list, pool.map(broken, [["a"]])), maxlen=0)
    with (
        IsolatedPool(2, crash_while_loading) as pool,
        pytest.raises(PipelineError, match=r"3 times .*not by the image's fault: .*SIGILL"),
    ):
        results(pool, "ab")


def test_a_machine_without_another_process_blames_no_image(
    pauses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(worker, "_launch", fail)
    with (
        IsolatedPool(2) as pool,
        pytest.raises(PipelineError, match=r"could not start .*temporarily unavailable"),
    ):
        results(pool, "ab")


def too_little(chunk: list[str]) -> list[str]:
    return [image.upper() for image in chunk]


@pytest.mark.skipif(not PROCESS_STATUS.exists(), reason="only Linux limits memory")
def test_a_machine_with_less_memory_than_the_limit_blames_no_image(pauses: int) -> None:
    isolated = IsolatedFunction(too_little, 2**46, split, stand_in, name)
    with (
        IsolatedPool(1) as pool,
        pytest.raises(PipelineError, match=r"image a.*does not give a process .* MB"),
    ):
        deque(map(list, pool.map(isolated, [["a"]])), maxlen=0)


def die_while_sending(marker: str, chunk: list[str]) -> list[str]:
    """Upper case; but at the first call, the worker is killed in the middle of its answer."""

    def send_half(connection: Any, buffer: bytes) -> None:
        os.write(connection.fileno(), buffer[: len(buffer) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    if not os.path.exists(marker):  # noqa: PTH110
        os.mkdir(marker)  # noqa: PTH102
        Connection._send = send_half  # type: ignore[attr-defined]
    return [image.upper() for image in chunk]


def test_a_worker_that_is_killed_while_it_answers_does_not_hang_the_map(
    pool: IsolatedPool, pauses: int, tmp_path: os.PathLike[str]
) -> None:
    function = partial(die_while_sending, os.path.join(tmp_path, "dead"))  # noqa: PTH118
    isolated = IsolatedFunction(function, MEMORY, split, stand_in, name)
    parts = list(map(list, pool.map(isolated, [["a"], ["b"], ["c"]])))
    assert parts == [[["A"]], [["B"]], [["C"]]]


# ---- the processes ----


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
