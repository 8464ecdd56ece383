"""An open MLflow run. An unreachable server costs the record, never the training."""

import hashlib
import math
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient, get_tracking_uri
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from pipeline.core import terminal
from pipeline.core.history import Record
from pipeline.tracking import heartbeat, provenance, run_model, store
from pipeline.tracking.heartbeat import Heartbeat
from pipeline.tracking.process_lock import ProcessLock
from pipeline.tracking.split_summary import SplitSummary, describe_inputs
from pipeline.tracking.system_monitor import SystemMonitor

if TYPE_CHECKING:
    from torch import nn

MAX_NAME_LENGTH = 200  # characters of a metric's name; MLflow takes 250
FLUSH = 1.0  # seconds between batches of metrics
MAX_METRICS = 500  # MLflow takes 1,000 at a time
BEST_FIGURES = ("epoch", "val_loss", "val_accuracy")  # of the best validation
CURVES = ("lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
# MLflow shows the part of a name before a slash as a section; sections are sorted by name.
CURVE, OF_BEST = "curves/", "kept/"


def metric_name(name: str) -> str:
    """A name that MLflow accepts. A changed name gets a digest, so that it stays unique."""
    section, slash, rest = name.rpartition("/") if name.count("/") < 2 else name.partition("/")
    valid = re.sub(r"[^\w\-. ]", "_", rest)[:MAX_NAME_LENGTH]
    if valid == rest:
        return name
    return f"{section}{slash}{valid}.{hashlib.sha256(rest.encode()).hexdigest()[:6]}"


def _entities(params: Mapping[str, object]) -> list[Param]:
    return [Param(name, str(value)) for name, value in params.items()]


class Run:
    """An open run; after the first failure to reach the server, a no-op."""

    def __init__(self) -> None:
        self.id: str | None = None
        self._waiting: list[Metric] = []
        self._sent = 0.0
        """Monotonic time of the last batch of metrics."""
        self._logged: Counter[str] | None = Counter()
        """Number of values per curve that a resumed run already has; None: not counted yet."""
        self._values: Mapping[str, float] = {}
        """The latest value of each metric that a resumed run already has."""
        self._lock: ProcessLock | None = None
        self._heartbeat: Heartbeat | None = None
        self._monitor: SystemMonitor | None = None

    def start(
        self,
        params: Mapping[str, object],
        name: str,
        tags: Mapping[str, str],
        start_time: int | None = None,
    ) -> None:
        """Open a new run with its params and tags; `start_time` is in ms since 1970."""

        def create() -> None:
            experiment = store.experiment_id(str(params[provenance.DATASET]))
            client, self._lock = MlflowClient(), ProcessLock(get_tracking_uri())
            all_tags = {**tags, **self._lock.tags, **heartbeat.first_tags()}
            run = client.create_run(experiment, start_time, all_tags, name)
            self._begin(run.info.run_id, self._lock, all_tags)
            client.log_batch(run.info.run_id, params=_entities(params))

        self._try(create, first=True)

    def resume(
        self,
        run_id: str,
        params: Mapping[str, object],
        name: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Reopen a run to add what it lacks; what it already has is not logged again."""

        def reopen() -> None:
            client, self._lock = MlflowClient(), ProcessLock(get_tracking_uri())
            data = client.get_run(run_id).data
            all_tags = {**(tags or {}), **self._lock.tags, **heartbeat.first_tags()}
            client.log_batch(
                run_id,
                params=_entities({} if data.params else params),  # they come all at once
                tags=[RunTag(*pair) for pair in all_tags.items()],
            )
            client.update_run(run_id, "RUNNING", name or None)
            self._begin(run_id, self._lock, all_tags)
            self._values, self._logged = data.metrics, None

        self._try(reopen, first=True)

    def _begin(self, run_id: str, lock: ProcessLock, tags: Mapping[str, str]) -> None:
        self.id = run_id
        if heartbeat.TAG in tags:
            self._heartbeat = Heartbeat(run_id, lock.name)

    def log_system_metrics(self) -> None:
        """Log the use of processors, memory, disk, network and GPUs until the run ends."""

        def start() -> None:
            self._monitor = SystemMonitor(str(self.id))

        self._try(start)

    def end(self, status: str, end_time: int | None = None) -> None:
        """Close the run as FINISHED, FAILED or KILLED; `end_time` is in ms since 1970."""
        self._flush()
        self._stop_threads()
        self._try(lambda: MlflowClient().set_terminated(str(self.id), status, end_time))
        if self._lock is not None:
            # A run that could not be closed keeps its lock file: the next start closes it.
            (self._lock.remove if self.id else self._lock.release)()

    def _stop_threads(self) -> None:
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            store.catch_error(monitor.stop)
        if self._heartbeat is not None:
            self._heartbeat.stop()

    def log_validation(self, record: Record) -> None:
        """Log a validation by epoch: with other batch sizes, steps are not comparable."""
        if self._logged is None:
            self._try(self._count_logged)
        logged, figures = self._logged or Counter(), asdict(record)
        values = {CURVE + name: figures[name] for name in CURVES if not logged[name]}
        self._logged = logged - Counter(dict.fromkeys(CURVES, 1))
        self._add(values, math.ceil(record.epoch))

    def _count_logged(self) -> None:
        names = [name for name in CURVES if CURVE + name in self._values]
        history = MlflowClient().get_metric_history
        self._logged = Counter({name: len(history(str(self.id), CURVE + name)) for name in names})

    def log_best(self, record: Record) -> None:
        """Log the validation whose weights the model has; curves end with the last one."""
        figures = asdict(record)
        self.log_metrics({OF_BEST + name: figures[name] for name in BEST_FIGURES})

    def log_metrics(self, values: Mapping[str, float | None]) -> None:
        """Log metrics that have one value, unless the run has it."""
        numbers = {metric_name(name): value for name, value in values.items() if value is not None}
        # Compared as text, because NaN does not equal NaN.
        has = {name: repr(value) for name, value in self._values.items()}
        new = {name: float(number) for name, number in numbers.items()}
        self._add({name: new[name] for name in new if repr(new[name]) != has.get(name)}, step=0)

    def _add(self, values: Mapping[str, float], step: int) -> None:
        """Add metrics to those sent next: at most every second, because an epoch may be shorter."""
        now = int(time.time() * 1000)
        self._waiting += [Metric(name, value, now, step) for name, value in values.items()]
        if time.monotonic() - self._sent > FLUSH or len(self._waiting) > MAX_METRICS:
            self._flush()

    def _flush(self) -> None:
        self._sent = time.monotonic()
        if self._waiting:
            self._try(self._send)

    def _send(self) -> None:
        """Send the metrics that wait; those that the server refuses are lost."""
        run_id, waiting, self._waiting = str(self.id), self._waiting, []
        for start in range(0, len(waiting), MAX_METRICS):
            MlflowClient().log_batch(run_id, metrics=waiting[start : start + MAX_METRICS])

    def log_datasets(self, name: str, splits: Mapping[str, SplitSummary]) -> None:
        """Log the splits as inputs of the run, by MLflow's name for each."""

        def log() -> None:
            inputs = describe_inputs(name, splits)
            try:
                MlflowClient().log_inputs(str(self.id), inputs)
            except MlflowException:  # two runs that log new data sets at the same moment collide
                MlflowClient().log_inputs(str(self.id), inputs)

        self._try(log)

    def set_tags(self, values: Mapping[str, str]) -> None:
        """Set tags, after all metrics that were logged before."""
        self._flush()
        tags = [RunTag(*pair) for pair in values.items()]
        self._try(lambda: MlflowClient().log_batch(str(self.id), tags=tags))

    def set_description(self, markdown: str) -> None:
        """Set the text on the run's page; `{artifacts}` and `{id}` are replaced."""

        def log() -> None:
            experiment = MlflowClient().get_run(str(self.id)).info.experiment_id
            address = f"#/experiments/{experiment}/runs/{self.id}/artifacts"
            text = markdown.replace("{artifacts}", address).replace("{id}", str(self.id))
            MlflowClient().set_tag(str(self.id), run_model.NOTE, text)

        self._try(log)

    def log_folder(self, directory: Path, name: str) -> None:
        """Log the files of a folder below `name`."""
        self._try(lambda: MlflowClient().log_artifacts(str(self.id), str(directory), name))

    def log_file(self, path: Path, name: str) -> None:
        """Log a file below `name`."""
        self._try(lambda: MlflowClient().log_artifact(str(self.id), str(path), name))

    def log_texts(self, contents: Mapping[str, str], folder: str = "") -> None:
        """Log texts as files, by name."""

        def log() -> None:
            with tempfile.TemporaryDirectory() as staged:
                for name, content in contents.items():
                    Path(staged, name).write_text(content, "utf-8", "surrogateescape")
                MlflowClient().log_artifacts(str(self.id), staged, folder or None)

        self._try(log)

    def log_checkpoint(self, suffix: "nn.Module", name: str) -> None:
        """Log the weights of the trained part, below `checkpoint`."""
        from pipeline.network import tensors

        def log() -> None:
            with tempfile.TemporaryDirectory() as folder:
                tensors.write(Path(folder, f"{name}.safetensors"), suffix.state_dict())
                MlflowClient().log_artifacts(str(self.id), folder, "checkpoint")

        self._try(log)

    def log_model(self, models: Path, digest: str, epoch: int) -> None:
        """Log the model in a form that predicts, with the metrics of its epoch.

        Args:
            digest: DVC's, of `models`.
        """
        self._flush()
        curves = [CURVE + name for name in CURVES]
        self._try(lambda: run_model.log_model(str(self.id), models, digest, curves, epoch))

    def add_test_result_to_model(self) -> None:
        """Show the test figures and the description on the model's page, too."""
        self._flush()
        self._try(lambda: run_model.add_test_result(str(self.id)))

    def _try(self, action: Callable[[], Any], first: bool = False) -> None:
        if self.id is None and not first:
            return
        if self._heartbeat is not None and self._heartbeat.is_lost:
            self.id, action = None, heartbeat.refuse_lost_run
        if error := store.catch_error(action):
            self.disable(error)

    def disable(self, error: Exception) -> None:
        """Log nothing from now on, and warn."""
        if self.id is not None:
            store.catch_error(self._close_as_failed)
        self.id = None
        self._stop_threads()
        terminal.warn(
            f"MLflow at {store.address()} fails ({store.describe_error(error)}); the work goes on "
            "without it. Record this model later with: pipeline sync"
        )

    def _close_as_failed(self) -> None:
        """Send what waits, and close the run: the server may have refused only one action."""
        self._send()
        MlflowClient().set_terminated(str(self.id), "FAILED")
