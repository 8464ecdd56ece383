"""A sweep's runs in MLflow: one for the sweep, and below it one for each trial.

A sweep goes on when the server cannot be reached; running the same command again records what is
missing.
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
from pipeline.tracking import find_run, heartbeat, provenance, store
from pipeline.tracking.find_run import PARENT
from pipeline.tracking.heartbeat import Heartbeat
from pipeline.tracking.process_lock import ProcessLock
from pipeline.tracking.run import BEST_FIGURES, CURVE, CURVES, OF_BEST
from pipeline.tracking.run_model import NOTE
from pipeline.tracking.run_names import sweep_name

KEY, NUMBER, STATE, REASON = "sweep.key", "sweep.trial", "sweep.state", "sweep.reason"
RECORDED = ("FINISHED", "FAILED")  # states of complete records; others were interrupted
MAX_METRICS = 500  # per request; MLflow accepts 1,000


class SweepRun:
    """The runs of a sweep; after the first failure to reach the server, a no-op."""

    def __init__(self, params: Params, key: str, name: str, deviation: str = "") -> None:
        """`deviation`: how the images differ from those that the data set describes."""
        self._params = params
        self._origin = provenance.deviation_tags(deviation)
        self._key = key
        self._name = name or sweep_name(key)
        self._client: MlflowClient
        self._experiment = ""
        self._parent: str | None = None
        self._lock: ProcessLock | None = None
        self._heartbeat: Heartbeat | None = None
        self._tags: dict[str, str] = {}
        """They mark the runs of this process, to be closed if it is killed."""
        self._facts: list[Param] = []
        """What is searched, and how."""
        self._figures: Mapping[str, float] = {}
        """Those that a reopened sweep already has."""
        self._recorded: set[int] = set()
        """Numbers of the trials that have a run."""

    def open(self, space: Space, goal: Goal, seed: int) -> None:
        """Reopen the run with this key, or create one."""

        def reopen_or_create() -> None:
            self._experiment = store.experiment_id(self._params.dataset.name)
            self._client = MlflowClient()
            find_run.close_abandoned()
            self._lock = ProcessLock(get_tracking_uri())
            self._tags = self._lock.tags
            runs = self._search(f"tags.`{KEY}` = '{self._key}'")
            # One that is still running belongs to a colleague on the same server.
            ended = [run for run in runs if run.info.status != "RUNNING"]
            self._facts = _describe_sweep(space, goal, seed)
            sign = heartbeat.first_tags()
            if ended:
                self._reopen(ended[0], sign)
            else:
                self._parent = self._create_parent(sign)
            if sign:
                self._heartbeat = Heartbeat(str(self._parent), self._lock.name)

        self._try(reopen_or_create, first=True)

    def _reopen(self, run: store.MlflowRun, sign: Mapping[str, str]) -> None:
        self._parent, self._figures = str(run.info.run_id), run.data.metrics
        tags = [RunTag(*pair) for pair in {**self._tags, **sign}.items()]
        # A kill may have left it without params, which come all at once.
        self._client.log_batch(
            self._parent, params=[] if run.data.params else self._facts, tags=tags
        )
        self._client.update_run(self._parent, "RUNNING")
        self._find_recorded_trials()

    def _create_parent(self, sign: Mapping[str, str]) -> str:
        tags = {**provenance.source_tags(), **self._origin, **self._tags, **sign, KEY: self._key}
        run = self._client.create_run(self._experiment, tags=tags, run_name=self._name)
        self._client.log_batch(run.info.run_id, params=self._facts)
        return str(run.info.run_id)

    def _find_recorded_trials(self) -> None:
        """Find the trials that have a run; delete runs whose recording was interrupted."""
        for run in self._search(f"tags.`{PARENT}` = '{self._parent}'"):
            if run.info.status in RECORDED:
                self._recorded.add(int(run.data.tags[NUMBER]))
            elif run.info.status != "RUNNING":
                self._client.delete_run(run.info.run_id)

    def _search(self, query: str) -> list[store.MlflowRun]:
        return store.search_runs(query, [self._experiment])

    def add_trial(self, trial: EndedTrial) -> None:
        """Record a trial that has no run yet."""
        if trial.number not in self._recorded:
            self._try(lambda: self._write(trial))
            self._recorded.add(trial.number)

    def _write(self, trial: EndedTrial) -> None:
        tags = {
            PARENT: str(self._parent),
            NUMBER: str(trial.number),
            STATE: trial.state.value,
            **({REASON: trial.reason} if trial.reason else {}),
            **self._origin,
            **self._tags,
            **heartbeat.first_tags(),
        }
        run_id = self._client.create_run(
            self._experiment, trial.start_ms, tags, f"trial-{trial.number:03d}"
        ).info.run_id
        values = {**self._params.flat(), **trial.values}
        params = [Param(name, str(value)) for name, value in values.items()]
        metrics = _metrics(trial)
        self._client.log_batch(run_id, metrics[:MAX_METRICS], params)
        for start in range(MAX_METRICS, len(metrics), MAX_METRICS):
            self._client.log_batch(run_id, metrics[start : start + MAX_METRICS])
        status = "FAILED" if trial.state is TrialState.FAILED else "FINISHED"
        self._client.set_terminated(run_id, status, trial.end_ms)

    def add_summary(self, note: str, figures: Mapping[str, float], files: Sequence[Path]) -> None:
        """Add the result to the run of the sweep.

        Args:
            note: Its description, in Markdown.
        """

        def log() -> None:
            parent, now = str(self._parent), int(time.time() * 1000)
            metrics = [
                Metric(name, value, now, 0)
                for name, value in figures.items()
                if value != self._figures.get(name)
            ]
            self._client.log_batch(parent, metrics, tags=[RunTag(NOTE, note)])
            for path in files:
                self._client.log_artifact(parent, str(path))

        self._try(log)

    def end(self, status: str) -> None:
        """Close the run of the sweep."""
        if self._heartbeat is not None:
            self._heartbeat.stop()
        self._try(lambda: self._client.set_terminated(str(self._parent), status))
        if self._lock is not None:
            (self._lock.remove if self._parent else self._lock.release)()

    def _try(self, action: Callable[[], object], first: bool = False) -> None:
        if self._parent is None and not first:
            return
        if self._heartbeat is not None and self._heartbeat.is_lost:
            action = heartbeat.refuse_lost_run
        if error := store.catch_error(action):
            self._parent = None
            terminal.warn(
                f"MLflow at {store.address()} fails ({store.describe_error(error)}); the sweep "
                "goes on without it. Record it later by running the same command again"
            )


def _describe_sweep(space: Space, goal: Goal, seed: int) -> list[Param]:
    facts = {f"space.{name}": text for name, text in space.texts.items()}
    facts |= {"sweep.goal": goal.value, "sweep.seed": str(seed)}
    return [Param(name, value) for name, value in facts.items()]


def _metrics(trial: EndedTrial) -> list[Metric]:
    """Metrics by epoch, under the names of stage train."""
    metrics = [
        Metric(CURVE + name, asdict(record)[name], trial.end_ms, math.ceil(record.epoch))
        for record in trial.history
        for name in CURVES
    ]
    if trial.history:
        best = asdict(history.best(trial.history))
        metrics += [Metric(OF_BEST + name, best[name], trial.end_ms, 0) for name in BEST_FIGURES]
    return [metric for metric in metrics if math.isfinite(metric.value)]


@contextmanager
def open_sweep_run(run: SweepRun, space: Space, goal: Goal, seed: int) -> Iterator[SweepRun]:
    """The run of a sweep: FINISHED when the block ends normally, else FAILED or KILLED."""
    run.open(space, goal, seed)
    try:
        yield run
    except (KeyboardInterrupt, SystemExit):
        run.end("KILLED")
        raise
    except BaseException:
        run.end("FAILED")
        raise
    run.end("FINISHED")
