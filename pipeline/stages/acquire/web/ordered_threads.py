"""Map a function over items in threads: results in order, in constant memory."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
LOOKAHEAD = 16  # items per thread that are submitted before the first result is read
# The reader wakes up for this many results, or after this many seconds: waking up for every
# result costs a tenth of the throughput.
BATCH, BATCH_SECONDS = 16, 0.05


def map_in_order(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Yield `function(item)` for each item, in order.

    The threads are daemons, so that an interrupted program ends without waiting for a server
    (the threads of concurrent.futures are joined at exit).
    """
    tasks: queue.SimpleQueue[tuple[Future[R], T] | None] = queue.SimpleQueue()
    pending: deque[Future[R]] = deque()

    for _ in range(threads):
        threading.Thread(target=_work, args=(function, tasks), daemon=True).start()
    try:
        for item in items:
            future: Future[R] = Future()
            pending.append(future)
            tasks.put((future, item))
            if len(pending) >= threads * LOOKAHEAD:
                with suppress(TimeoutError):
                    pending[BATCH - 1].exception(BATCH_SECONDS)  # waits without raising
                yield pending.popleft().result()
                while len(pending) > threads * LOOKAHEAD - BATCH and pending[0].done():
                    yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
        for _ in range(threads):
            tasks.put(None)


def _work(
    function: Callable[[T], R], tasks: "queue.SimpleQueue[tuple[Future[R], T] | None]"
) -> None:
    while (task := tasks.get()) is not None:
        future, item = task
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function(item))
            except BaseException as error:  # noqa: BLE001 - raised where the result is read
                future.set_exception(error)
        del task, future, item  # a thread that waits for its next task keeps no result alive
