"""A function over many items in threads: results in the items' order, little held in memory."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
LOOKAHEAD = 16  # items per thread that are taken before the first result is wanted
# The reader wakes up for so many results, or after so many seconds: waking up for each by itself
# costs the threads a tenth of their speed.
GROUP, MOMENT = 16, 0.05


def map_in_order(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Yield `function(item)` for each item, in order.

    The threads are daemons: when the reader is interrupted, nobody waits for an answer that a
    server still owes (concurrent.futures would, at Python's exit).
    """
    todo: queue.SimpleQueue[tuple[Future[R], T] | None] = queue.SimpleQueue()
    pending: deque[Future[R]] = deque()

    for _ in range(threads):
        threading.Thread(target=_work, args=(function, todo), daemon=True).start()
    try:
        for item in items:
            future: Future[R] = Future()
            pending.append(future)
            todo.put((future, item))
            if len(pending) >= threads * LOOKAHEAD:
                with suppress(TimeoutError):
                    pending[GROUP - 1].exception(MOMENT)  # waits, and raises no error of the item
                yield pending.popleft().result()
                while len(pending) > threads * LOOKAHEAD - GROUP and pending[0].done():
                    yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
        for _ in range(threads):
            todo.put(None)


def _work(
    function: Callable[[T], R], todo: "queue.SimpleQueue[tuple[Future[R], T] | None]"
) -> None:
    while (task := todo.get()) is not None:
        future, item = task
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function(item))
            except BaseException as error:  # noqa: BLE001 - raised where the result is read
                future.set_exception(error)
