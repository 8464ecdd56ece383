"""An open MLflow run. A server that cannot be reached costs the record, never the training."""

import hashlib
import json
import math
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient, get_tracking_uri
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelStatus,
    Metric,
    Param,
    RunTag,
)
from mlflow.models import Model
from torch import nn

from pipeline.core import terminal
from pipeline.network import tensors
from pipeline.tracking import logged_model, provenance, store
from pipeline.tracking.process_lock import ProcessLock

MAX_NAME_LENGTH = 200  # characters of a metric's name; MLflow takes 250
FLUSH = 1.0  # seconds that metrics wait for others to go with
MAX_METRICS = 500  # MLflow takes 1,000 at a time
SAMPLING = 5.0  # seconds between system metrics
NOTE = "mlflow.note.content"  # the run's description
KEPT = ("epoch", "val_loss", "val_accuracy")  # of the best validation
CURVES = ("lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
# MLflow shows what stands before a slash as a section, in the order of their names.
CURVE, OF_KEPT = "curves/", "kept/"


def metric_name(name: str) -> str:
    """As MLflow takes it; what had to be changed keeps apart what was different before."""
    section, slash, rest = name.rpartition("/") if name.count("/") < 2 else name.partition("/")
    plainly = re.sub(r"[^\w\-. ]", "_", rest)[:MAX_NAME_LENGTH]
    if plainly == rest:
        return name
    return f"{section}{slash}{plainly}.{hashlib.sha256(rest.encode()).hexdigest()[:6]}"


class Run:
    """An open run, or, after a failure to reach the server, nothing but its silence."""

    def __init__(self) -> None:
        self.id: str | None = None
        self._waiting: list[Metric] = []
        self._sent = 0.0
        """When metrics were sent last, by the monotonic clock."""
        self._known: Counter[str] = Counter()
        """Values of each curve that a run which goes on has already."""
        self._lock: ProcessLock | None = None
        self._monitor: Any = None

    def start(
        self,
        values: Mapping[str, object],
        name: str,
        tags: Mapping[str, str],
        began: int | None = None,
    ) -> None:
        """Open a new run with its params and tags; `began`: when, in ms since 1970."""

        def opened() -> None:
            experiment = store.experiment(str(values[provenance.DATASET]))
            self._lock = ProcessLock(get_tracking_uri())
            made = MlflowClient().create_run(experiment, began, {**tags, **self._lock.tags}, name)
            self.id = made.info.run_id
            params = [Param(key, str(value)) for key, value in values.items()]
            MlflowClient().log_batch(made.info.run_id, params=params)

        self._try(opened, first=True)

    def resume(self, run_id: str, name: str = "", tags: Mapping[str, str] | None = None) -> None:
        """Open a run again, to add to it; what it has of its curves is not logged twice."""

        def opened() -> None:
            client, self._lock = MlflowClient(), ProcessLock(get_tracking_uri())
            told = {**(tags or {}), **self._lock.tags}
            client.log_batch(run_id, tags=[RunTag(*pair) for pair in told.items()])
            client.update_run(run_id, "RUNNING", name or None)
            self.id = run_id
            for curve in CURVES:
                self._known[curve] = len(client.get_metric_history(run_id, CURVE + curve))

        self._try(opened, first=True)

    def watch(self) -> None:
        """Log what the machine does meanwhile: processors, memory, disk, network, GPUs."""

        def watched() -> None:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            self._monitor = SystemMetricsMonitor(  # type: ignore[no-untyped-call]
                self.id, SAMPLING, resume_logging=True
            )
            self._monitor.start()

        self._try(watched)

    def end(self, status: str, ended: int | None = None) -> None:
        """Close the run as FINISHED, FAILED or KILLED; `ended` as `began` of `start`."""
        self._flush()
        self._stop_watching()
        self._try(lambda: MlflowClient().set_terminated(str(self.id), status, ended))
        if self._lock is not None:
            # A run that could not be closed keeps its lock file: the next start closes it.
            (self._lock.remove if self.id else self._lock.release)()

    def _stop_watching(self) -> None:
        watching, self._monitor = self._monitor, None
        if watching is None:
            return
        watching.finish()

        def sent() -> None:
            watching.publish_metrics(watching.aggregate_metrics())
            watching.mlflow_logger.flush()

        store.failure(sent)  # a training of seconds has one sample, not yet sent

    def validation(self, record: Mapping[str, float]) -> None:
        """Log a validation at its epoch: batches differ in size, so steps would not compare."""
        values = {CURVE + name: record[name] for name in CURVES if not self._known[name]}
        self._known -= Counter(dict.fromkeys(CURVES, 1))
        self.metrics(values, step=math.ceil(record["epoch"]))

    def kept(self, kept: Mapping[str, float]) -> None:
        """Log the validation whose weights were kept: curves end with the last one."""
        self.metrics({OF_KEPT + name: kept[name] for name in KEPT})

    def metrics(self, values: Mapping[str, float | None], step: int = 0) -> None:
        """Log figures at a step, at the latest a second or so later: an epoch may take less."""
        now = int(time.time() * 1000)
        self._waiting += [
            Metric(metric_name(name), float(value), now, step)
            for name, value in values.items()
            if value is not None
        ]
        if time.monotonic() - self._sent > FLUSH or len(self._waiting) > MAX_METRICS:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting, self._sent = self._waiting, [], time.monotonic()
        for start in range(0, len(waiting), MAX_METRICS):
            self._try(partial(self._send, waiting[start : start + MAX_METRICS]))

    def _send(self, some: list[Metric]) -> None:
        MlflowClient().log_batch(str(self.id), metrics=some)

    def datasets(self, name: str, shown: Mapping[str, Mapping[str, Any]]) -> None:
        """Log what each split (context) shows: its `digest`, and its `images` by class."""

        def log() -> None:
            inputs = [
                DatasetInput(
                    Dataset(
                        name,
                        facts["digest"],
                        "local",
                        json.dumps({"uri": "data/split.csv"}),
                        profile=json.dumps({"split": context, "images": facts["images"]}),
                    ),
                    [InputTag("mlflow.data.context", context)],
                )
                for context, facts in shown.items()
            ]
            MlflowClient().log_inputs(str(self.id), inputs)

        self._try(log)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags, once all that was logged before has been sent."""
        self._flush()
        some = [RunTag(*pair) for pair in values.items()]
        self._try(lambda: MlflowClient().log_batch(str(self.id), tags=some))

    def describe(self, markdown: str) -> None:
        """What people read at the top of the run; `{artifacts}` becomes the address of these."""

        def log() -> None:
            place = MlflowClient().get_run(str(self.id)).info.experiment_id
            address = f"#/experiments/{place}/runs/{self.id}/artifacts"
            text = markdown.replace("{artifacts}", address).replace("{id}", str(self.id))
            MlflowClient().set_tag(str(self.id), NOTE, text)

        self._try(log)

    def artifacts(self, directory: Path, name: str) -> None:
        """Log the files of a folder below `name`."""
        self._try(lambda: MlflowClient().log_artifacts(str(self.id), str(directory), name))

    def artifact(self, path: Path, name: str) -> None:
        """Log a file below `name`."""
        self._try(lambda: MlflowClient().log_artifact(str(self.id), str(path), name))

    def texts(self, contents: Mapping[str, str], folder: str = "") -> None:
        """Log texts as files, by name."""

        def log() -> None:
            with tempfile.TemporaryDirectory() as staged:
                for name, content in contents.items():
                    Path(staged, name).write_text(content, "utf-8", "surrogateescape")
                MlflowClient().log_artifacts(str(self.id), staged, folder or None)

        self._try(log)

    def checkpoint(self, suffix: nn.Module, name: str) -> None:
        """Log the weights of what trains, below `checkpoint`."""

        def log() -> None:
            with tempfile.TemporaryDirectory() as folder:
                tensors.write(Path(folder, f"{name}.safetensors"), suffix.state_dict())
                MlflowClient().log_artifacts(str(self.id), folder, "checkpoint")

        self._try(log)

    def model(self, models: Path, epoch: int) -> None:
        """Log the model, able to predict, with what the curves say of its epoch."""
        self._flush()

        def log() -> None:
            Model.log(
                None,
                logged_model,
                name="model",
                flavor_name="pyfunc",
                run_id=self.id,
                models=models,
                model_id=self._place_of_model(),
                step=epoch,
                validate_serving_input=False,  # it would be loaded and run for that
            )

        self._try(log)

    def _place_of_model(self) -> str:
        """A logged model of this run that is yet to get its files."""
        client = MlflowClient()
        mine = client.get_run(str(self.id))
        place = mine.info.experiment_id
        # Those that are there were cut off, or the run would say that it has its model.
        for begun in client.search_logged_models([place], f"source_run_id = '{self.id}'"):
            if begun.status == LoggedModelStatus.PENDING:
                return str(begun.model_id)
            client.delete_logged_model(begun.model_id)
        made = client.create_logged_model(place, "model", self.id, params=mine.data.params)
        return str(made.model_id)

    def _try(self, action: Callable[[], Any], first: bool = False) -> None:
        if self.id is None and not first:
            return
        if error := store.failure(action):
            self.silence(error)

    def silence(self, error: Exception) -> None:
        """Log nothing from now on, and say why."""
        broken, self.id = self.id, None
        if broken is not None:  # it may have been one refusal; what else fails is told below
            store.failure(lambda: MlflowClient().set_terminated(broken, "FAILED"))
        self._stop_watching()
        terminal.warn(
            f"MLflow at {store.address()} fails ({store.reason(error)}); the work goes on without "
            "it. Record this model later with: pipeline sync"
        )
