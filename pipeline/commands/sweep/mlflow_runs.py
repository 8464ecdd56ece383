"""A sweep in MLflow: a run for all of it, and in that one for each trial.

A server that cannot be reached costs the record of what it missed, never the sweep; the next run of
the same command adds it.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from mlflow import MlflowClient, get_tracking_uri
from mlflow.entities import Metric, Param, RunTag

from pipeline.commands.sweep.goal import Goal
from pipeline.commands.sweep.journal import EndedTrial, TrialState
from pipeline.commands.sweep.search_space import Space
from pipeline.core import history, terminal
from pipeline.params import Params
from pipeline.tracking import find_run, provenance, store
from pipeline.tracking.find_run import PARENT
from pipeline.tracking.process_lock import ProcessLock
from pipeline.tracking.run import CURVE, CURVES, KEPT, NOTE, OF_KEPT

KEY, NUMBER, STATE, REASON = "sweep.key", "sweep.trial", "sweep.state", "sweep.reason"
WHOLE = ("FINISHED", "FAILED")  # how a recorded trial has ended; others were cut off
MAX_METRICS = 500  # MLflow takes 1,000 at a time


class Sweep:
    """The runs of a sweep; after a failure to reach the server, nothing but its silence."""

    def __init__(self, params: Params, key: str, name: str) -> None:
        self._settings = params
        self._key = key
        self._name = name or f"sweep-{key[:8]}"
        self._client: MlflowClient
        self._experiment = ""
        self._parent: str | None = None
        self._lock: ProcessLock | None = None
        self._tags: dict[str, str] = {}
        """By which a killed sweep's runs are known."""
        self._there: set[int] = set()
        """Numbers of the trials that have a run."""

    def open(self, space: Space, goal: Goal, seed: int) -> None:
        """Open the run of this key again, or a new one."""

        def opened() -> None:
            self._experiment = store.experiment_id(self._settings.dataset.name)
            self._client = MlflowClient()
            find_run.close_abandoned()
            self._lock = ProcessLock(get_tracking_uri())
            self._tags = self._lock.tags
            found = self._search(f"tags.`{KEY}` = '{self._key}'")
            # One that still runs is of a colleague, on the same server.
            ended = [run for run in found if run.info.status != "RUNNING"]
            if ended:
                self._parent = str(ended[0].info.run_id)
                tags = [RunTag(*pair) for pair in self._tags.items()]
                self._client.log_batch(self._parent, tags=tags)
                self._client.update_run(self._parent, "RUNNING")
                self._look()
            else:
                self._parent = self._new(space, goal, seed)

        self._try(opened, first=True)

    def _new(self, space: Space, goal: Goal, seed: int) -> str:
        tags = {**provenance.source_tags(), **self._tags, KEY: self._key}
        run = self._client.create_run(self._experiment, tags=tags, run_name=self._name)
        facts = {f"space.{name}": text for name, text in space.texts.items()}
        facts |= {"sweep.goal": goal.value, "sweep.seed": str(seed)}
        self._client.log_batch(
            run.info.run_id, params=[Param(name, value) for name, value in facts.items()]
        )
        return str(run.info.run_id)

    def _look(self) -> None:
        """Which trials are recorded; runs that were left half written are removed."""
        for run in self._search(f"tags.`{PARENT}` = '{self._parent}'"):
            if run.info.status in WHOLE:
                self._there.add(int(run.data.tags[NUMBER]))
            elif run.info.status != "RUNNING":
                self._client.delete_run(run.info.run_id)

    def _search(self, query: str) -> list[store.MlflowRun]:
        return store.search_runs(query, [self._experiment])

    def trial(self, one: EndedTrial) -> None:
        """Record a trial, unless it is."""
        if one.number not in self._there:
            self._try(lambda: self._write(one))
            self._there.add(one.number)

    def _write(self, one: EndedTrial) -> None:
        tags = {
            PARENT: str(self._parent),
            NUMBER: str(one.number),
            STATE: one.state.value,
            **({REASON: one.reason} if one.reason else {}),
            **self._tags,
        }
        run_id = self._client.create_run(
            self._experiment, one.began, tags, f"trial-{one.number:03d}"
        ).info.run_id
        flat = {**self._settings.flat(), **one.values}
        listed = [Param(name, str(value)) for name, value in flat.items()]
        metrics = _metrics(one)
        self._client.log_batch(run_id, metrics[:MAX_METRICS], listed)
        for start in range(MAX_METRICS, len(metrics), MAX_METRICS):
            self._client.log_batch(run_id, metrics[start : start + MAX_METRICS])
        status = "FAILED" if one.state is TrialState.FAILED else "FINISHED"
        self._client.set_terminated(run_id, status, one.ended)

    def summary(self, note: str, figures: Mapping[str, float], files: Sequence[Path]) -> None:
        """Say in the run of all what came of them.

        Args:
            note: Markdown, which the run shows first.
        """

        def log() -> None:
            parent, now = str(self._parent), int(time.time() * 1000)
            metrics = [Metric(name, value, now, 0) for name, value in figures.items()]
            self._client.log_batch(parent, metrics, tags=[RunTag(NOTE, note)])
            for path in files:
                self._client.log_artifact(parent, str(path))

        self._try(log)

    def end(self, status: str) -> None:
        self._try(lambda: self._client.set_terminated(str(self._parent), status))
        if self._lock is not None:
            (self._lock.remove if self._parent else self._lock.release)()

    def _try(self, action: Callable[[], object], first: bool = False) -> None:
        if self._parent is None and not first:
            return
        if error := store.catch_error(action):
            self._parent = None
            terminal.warn(
                f"MLflow at {store.address()} fails ({store.describe_error(error)}); the sweep "
                "goes on without it. Record it later by running the same command again"
            )


def _metrics(one: EndedTrial) -> list[Metric]:
    """As stage train's run names them, by epoch."""
    found = [
        Metric(CURVE + name, asdict(record)[name], one.ended, math.ceil(record.epoch))
        for record in one.history
        for name in CURVES
    ]
    if one.history:
        best = asdict(history.best(one.history))
        found += [Metric(OF_KEPT + name, best[name], one.ended, 0) for name in KEPT]
    return [metric for metric in found if math.isfinite(metric.value)]


@contextmanager
def recording(
    params: Params, key: str, name: str, space: Space, goal: Goal, seed: int
) -> Iterator[Sweep]:
    """The run of a sweep: FINISHED when the block ends well, else FAILED or KILLED."""
    sweep = Sweep(params, key, name)
    sweep.open(space, goal, seed)
    try:
        yield sweep
    except (KeyboardInterrupt, SystemExit):
        sweep.end("KILLED")
        raise
    except BaseException:
        sweep.end("FAILED")
        raise
    sweep.end("FINISHED")
