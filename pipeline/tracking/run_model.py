"""The model of a run: logged once, whatever stopped an earlier attempt."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric

from pipeline.tracking import logged_model, provenance
from pipeline.tracking.store import MlflowRun

NOTE = "mlflow.note.content"  # the description of a run or a model
THREADS = 8  # MLflow's clients keep ten connections
TEST = "test/"  # the section of the test metrics that are compared most
MEASURED_ON = {"curves/train_": "training", "curves/val_": "validation", TEST: "test"}


def log_model(run_id: str, models: Path, digest: str, curves: list[str], epoch: int) -> None:
    """Log a model folder as the model of a run, in a form that predicts.

    A model that a killed process left is finished where it stopped. MLflow's own `Model.log` links
    a model to its run anew, which fails for one that is linked already, and imports pandas.

    Args:
        digest: DVC's, of `models`.
        curves: Metrics of the run.
        epoch: The step whose values of `curves` are the model's.
    """
    client = MlflowClient()
    run = client.get_run(run_id)
    model = _find_or_create(client, run, digest)
    if model.status == LoggedModelStatus.READY:
        return
    outputs = run.outputs.model_outputs if run.outputs else []
    if model.model_id not in {output.model_id for output in outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, epoch)])
    metrics = list(_metrics_at(client, run, model.model_id, curves, epoch))
    client.log_batch(run_id, metrics=metrics)
    with tempfile.TemporaryDirectory() as staged:
        logged_model.save_model(Path(staged, "model"), models, model)
        _log_files(client, model, Path(staged, "model"))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def _log_files(client: MlflowClient, model: LoggedModel, folder: Path) -> None:
    """Log the files of a model: hundreds, most of them code; a server gets several at a time."""
    if urlsplit(model.artifact_location).scheme in {"", "file"}:
        client.log_model_artifacts(model.model_id, str(folder))
        return

    def log(path: Path) -> None:
        parent = path.parent.relative_to(folder).as_posix()
        client.log_model_artifact(model.model_id, str(path), None if parent == "." else parent)

    first, *others = sorted(path for path in folder.rglob("*") if path.is_file())
    log(first)  # opens what all others use
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(log, others):
            pass


def add_test_result(run_id: str) -> None:
    """Give the model of a run the test figures and the description of the run."""
    client = MlflowClient()
    run = client.get_run(run_id)
    for model in _search(client, run)[:1]:
        names = [name for name in run.data.metrics if name.startswith(TEST)]
        # Of an earlier evaluation it has the same names, at other times.
        logged = {(metric.key, metric.timestamp) for metric in model.metrics or ()}
        metrics = [
            metric
            for metric in _metrics_at(client, run, model.model_id, names, step=0)
            if (metric.key, metric.timestamp) not in logged
        ]
        client.log_batch(run_id, metrics=metrics)
        if description := run.data.tags.get(NOTE):
            client.set_logged_model_tags(model.model_id, {NOTE: description})


def has_ready_model(run: MlflowRun) -> bool:
    """Whether a run has a model whose files are complete."""
    models = _search(MlflowClient(), run)
    return any(model.status == LoggedModelStatus.READY for model in models)


def _find_or_create(client: MlflowClient, run: MlflowRun, digest: str) -> LoggedModel:
    """The run's model with this digest; models of other bytes are deleted."""
    models = _search(client, run)
    # Models of older versions have no digest: theirs is the run's.
    own = provenance.MODELS, run.data.tags.get(provenance.MODELS)
    same = [model for model in models if model.tags.get(*own) == digest]
    same.sort(key=lambda model: model.status != LoggedModelStatus.READY)
    for model in models:
        if model not in same[:1]:
            client.delete_logged_model(model.model_id)
    if same:
        return same[0]
    # MLflow refuses dots in the name of a model.
    name = run.data.params.get(provenance.DATASET, "model").replace(".", "-")
    return client.create_logged_model(
        run.info.experiment_id,
        name,
        run.info.run_id,
        tags={provenance.MODELS: digest},
        params=run.data.params,
    )


def _search(client: MlflowClient, run: MlflowRun) -> list[LoggedModel]:
    query = f"source_run_id = '{run.info.run_id}'"
    return list(client.search_logged_models([run.info.experiment_id], query))


def _metrics_at(
    client: MlflowClient, run: MlflowRun, model_id: str, names: list[str], step: int
) -> Iterator[Metric]:
    """The values that metrics of the run have at a step, as metrics of its model.

    Each names the data set that it is of: a model's page shows the data sets of its metrics.
    """
    for name in set(names) & run.data.metrics.keys():
        dataset = _dataset_of(run, name)
        for metric in client.get_metric_history(run.info.run_id, name):
            if metric.step == step:
                # The same time: the run's own metric is not logged again.
                yield Metric(name, metric.value, metric.timestamp, step, model_id, *dataset)


def _dataset_of(run: MlflowRun, metric: str) -> tuple[str, str] | tuple[()]:
    """Name and digest of the split that a metric was measured on, if the run has it as an input."""
    contexts = {split for start, split in MEASURED_ON.items() if metric.startswith(start)}
    for entry in run.inputs.dataset_inputs if run.inputs else ():
        if contexts & {tag.value for tag in entry.tags}:
            return entry.dataset.name, entry.dataset.digest
    return ()
