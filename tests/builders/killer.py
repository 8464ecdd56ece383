"""A killer of worker processes, as the system's is when memory is short."""

import random
import signal
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

MAX_DELAY = 0.3  # seconds that a worker lives, at most, before it is killed
WORKER = "loky.backend.popen_loky_posix"  # in the command of a worker


def workers() -> list[psutil.Process]:
    """The workers of this process that are alive."""
    alive = []
    for process in psutil.Process().children():
        try:
            if WORKER in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return alive


class Killer:
    """Kills so many workers of this process, one after the other, while the block runs."""

    def __init__(self, kills: int, gate: Path) -> None:
        """`gate` is created after the last kill."""
        self._kills, self._gate = kills, gate
        self._random = random.Random(0)
        self._has_stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._has_stopped.set()
        self._thread.join()

    def _run(self) -> None:
        for _ in range(self._kills):
            time.sleep(self._random.uniform(0, MAX_DELAY))
            while not self._has_killed():
                if self._has_stopped.wait(0.01):
                    return
        self._gate.touch()

    def _has_killed(self) -> bool:
        alive = workers()
        try:
            if alive:
                self._random.choice(alive).send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:  # it has ended since
            return False
        return bool(alive)
