"""Signs of life of open runs, for other machines, which cannot see this one's locks.

Every open run of a store with a server has a tag with the time by the server's clock, which the
recording process renews. No clock of a client matters. A run whose tag is old has lost its process,
or its process was suspended for long; in the second case the next beat notices.
"""

from datetime import UTC, datetime
from threading import Event, Lock, Thread

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipeline.tracking import server_clock, store
from pipeline.tracking.process_lock import PROCESS
from pipeline.tracking.store import MlflowRun

TAG = "env.heartbeat"
BEAT_SECONDS = 180  # a beat is three small requests
STALE_SECONDS = 900
RUNNING = "RUNNING"


def first_tags() -> dict[str, str]:
    """The tag of a run that opens now; {} where no server has the store."""
    now = server_clock.read()
    return {} if now is None else {TAG: _format(now)}


def _format(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def is_stale(run: MlflowRun, now: float) -> bool:
    """Whether an open run has had no beat for long; `now` is by the server's clock."""
    try:
        last = datetime.fromisoformat(run.data.tags.get(TAG, "")).timestamp()
    except (ValueError, OverflowError):  # of an older version, or of another program
        return False
    return run.info.status == RUNNING and now - last > STALE_SECONDS


def refuse_lost_run() -> None:
    """Refuse an action on a run that another process has taken over.

    Raises:
        MlflowException: always.
    """
    raise MlflowException("another process has taken over the run")


class Heartbeat:
    """Renews the tag of an open run, in a thread, until it is stopped."""

    def __init__(self, run_id: str, process: str) -> None:
        """`process` is the name of the process's lock, which the run has as a tag."""
        self._run_id = run_id
        self._process = process
        self._is_stopped = Event()
        self._lock = Lock()
        self.is_lost = False
        """Whether another process has taken over the run."""
        Thread(target=self._beat_until_stopped, daemon=True).start()

    def stop(self) -> None:
        """Wait for a beat that has begun, which may open the run again; there is no other."""
        self._is_stopped.set()
        with self._lock:
            pass

    def _beat_until_stopped(self) -> None:
        while not self.is_lost and not self._is_stopped.wait(BEAT_SECONDS):
            with self._lock:
                if not self._is_stopped.is_set():
                    store.catch_error(self._beat)  # the next beat tries again

    def _beat(self) -> None:
        client = MlflowClient()
        run = client.get_run(self._run_id)
        self.is_lost = run.data.tags.get(PROCESS) != self._process
        now = None if self.is_lost else server_clock.read()
        if now is not None:
            client.set_tag(self._run_id, TAG, _format(now))
            if run.info.status != RUNNING:  # closed by another machine while this one slept
                client.update_run(self._run_id, RUNNING)
