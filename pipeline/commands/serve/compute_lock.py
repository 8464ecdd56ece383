"""Which threads may run a network while another thread loads one."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class ComputeLock:
    """Several threads compute at the same time, or one traces a network.

    While torch.fx traces a network, `nn.Module.__call__` is replaced for all threads.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._computing = 0  # threads
        self._is_tracing = False

    @contextmanager
    def computing(self) -> Iterator[None]:
        """For a block that runs a network."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_tracing)
            self._computing += 1
        try:
            yield
        finally:
            with self._changed:
                self._computing -= 1
                self._changed.notify_all()

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """For a block that traces one; of one thread only."""
        with self._changed:
            self._is_tracing = True  # no further thread begins to compute
            self._changed.wait_for(lambda: not self._computing)
        try:
            yield
        finally:
            with self._changed:
                self._is_tracing = False
                self._changed.notify_all()
