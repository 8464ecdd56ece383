import gc
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Generator, Iterator
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stages.acquire.web.ordered_threads import LOOKAHEAD, map_in_order
from tests import ROOT

EXAMPLES = settings(derandomize=True, max_examples=25)


def doubled(number: int) -> int:
    return 2 * number


def close(results: Iterator[object]) -> None:
    assert isinstance(results, Generator)
    results.close()


def workers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.endswith("(_work)")}


def wait_for_the_end_of(threads: set[threading.Thread]) -> None:
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)


@EXAMPLES
@given(st.lists(st.integers(), max_size=200), st.integers(1, 20))
def test_every_result_comes_in_the_order_of_the_items(items: list[int], threads: int) -> None:
    assert list(map_in_order(doubled, items, threads)) == [2 * item for item in items]


@EXAMPLES
@given(st.integers(1, 60), st.integers(1, 8), st.integers(0, 2**31))
def test_the_order_does_not_depend_on_timing(length: int, threads: int, seed: int) -> None:
    pauses = [random.Random(seed + number).uniform(0, 0.002) for number in range(length)]

    def slowly(number: int) -> int:
        time.sleep(pauses[number])
        return number

    assert list(map_in_order(slowly, range(length), threads)) == list(range(length))


def test_items_are_processed_concurrently() -> None:
    barrier = threading.Barrier(4)
    assert len(list(map_in_order(lambda _: barrier.wait(5), range(4), 4))) == 4


def test_no_more_items_than_threads_are_processed_at_a_time() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def work(_: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.001)
        with lock:
            now -= 1

    list(map_in_order(work, range(100), 3))
    assert most <= 3


@EXAMPLES
@given(st.integers(1, 6), st.integers(1, 300))
def test_only_lookahead_items_are_read_in_advance(threads: int, count: int) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield number

    results = map_in_order(doubled, items(), threads)
    for read in range(1, count + 1):
        next(results)
        assert taken <= threads * LOOKAHEAD + read
    close(results)


def test_nothing_starts_before_the_first_result_is_read() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        taken.append(0)
        yield 0

    before = workers()
    results = map_in_order(doubled, items(), 2)
    assert (taken, workers()) == ([], before)
    close(results)


def test_a_result_is_released_once_read() -> None:
    class Large:
        pass

    results = map_in_order(lambda _: Large(), range(100), 2)
    first = weakref.ref(next(results))
    next(results)
    gc.collect()
    assert first() is None
    close(results)


def test_an_item_is_released_once_its_result_is_read() -> None:
    class Item:
        pass

    items = [Item() for _ in range(64)]
    references = [weakref.ref(item) for item in items]
    results = map_in_order(id, (items.pop(0) for _ in range(64)), 1)
    list(islice(results, 40))
    gc.collect()
    assert sum(reference() is not None for reference in references) <= 64 - 40 + 1
    close(results)


def test_an_error_is_raised_in_place_of_its_result() -> None:
    def work(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number

    results = map_in_order(work, range(100), 4)
    assert list(islice(results, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="five"):
        next(results)


def test_a_keyboard_interrupt_is_raised_in_the_reader() -> None:
    def work(_: int) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(map_in_order(work, [1], 1))


def test_an_error_of_the_items_is_raised_in_the_reader() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(map_in_order(doubled, items(), 2))


@pytest.mark.parametrize("end", ["read to the end", "closed early", "failed"])
def test_the_threads_end(end: str) -> None:
    def work(number: int) -> int:
        if end == "failed" and number == 3:
            raise ValueError("three")
        return number

    before = workers()
    results = map_in_order(work, range(200), 5)
    next(results)
    started = workers() - before
    assert len(started) == 5
    if end == "closed early":
        close(results)
    elif end == "failed":
        with pytest.raises(ValueError, match="three"):
            list(results)
    else:
        list(results)
    wait_for_the_end_of(started)


def test_pending_items_are_cancelled_when_the_reader_closes() -> None:
    started: list[int] = []
    go, running = threading.Event(), threading.Event()

    def work(number: int) -> int:
        started.append(number)
        if number:
            running.set()
            go.wait(5)
        return number

    before = workers()
    results = map_in_order(work, range(100), 1)
    assert next(results) == 0
    running.wait(5)
    mine = workers() - before
    close(results)
    go.set()
    wait_for_the_end_of(mine)
    assert started == [0, 1]


def test_closing_does_not_wait_for_running_items() -> None:
    go = threading.Event()
    results = map_in_order(lambda number: number and go.wait(10), range(100), 2)
    next(results)
    start = time.monotonic()
    close(results)
    assert time.monotonic() - start < 2
    go.set()


HANGING = """
import threading
from pipeline.stages.acquire.web.ordered_threads import map_in_order
print("ready", flush=True)
for result in map_in_order(lambda number: number and threading.Event().wait(), range(100), 4):
    print(result, flush=True)
"""


def test_an_interrupted_program_ends_despite_running_items() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HANGING],
        cwd=ROOT,
        text=True,
        env=os.environ.copy(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert process.stdout.readline() == "0\n"
        process.send_signal(signal.SIGINT)
        try:
            _, error = process.communicate(timeout=2)
        finally:
            process.kill()
    assert error.endswith("KeyboardInterrupt\n")
