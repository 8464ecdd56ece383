"""Find the run that a training already has: one that was stopped, is complete, or was killed."""

import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mlflow import MlflowClient, get_tracking_uri
from mlflow.exceptions import MlflowException

from pipeline.core import project
from pipeline.tracking import heartbeat, process_lock, provenance, server_clock, sqlite, store
from pipeline.tracking.run_names import queue_name
from pipeline.tracking.store import UNREACHABLE, MlflowRun

PARENT = "mlflow.parentRunId"


def has_params(run: MlflowRun, params: Mapping[str, object]) -> bool:
    """Whether no param of a run differs from `params` (a killed run may lack some)."""
    values = {key: normalize(value) for key, value in params.items()}
    return all(values.get(key) == normalize(value) for key, value in run.data.params.items())


def normalize(value: object) -> str:
    """A param's value as text that is the same for equal numbers.

    For params of another version it is not known whether 8 is an integer.
    """
    try:
        return repr(float(str(value)))
    except ValueError:
        return str(value)


def find(params: Mapping[str, object], tags: Mapping[str, str], models: str) -> MlflowRun | None:
    """The run of this model, experiment, commit and params: a complete one, else the newest.

    Of several complete ones it is that of this clone: others may train the same at the same time.

    Args:
        params: By dotted name.
        models: DVC's digest of the model.
    """
    candidates = []
    for run in _with_fingerprint(params, tags[provenance.FINGERPRINT]):
        run_tags = run.data.tags
        # Compared here, because a search does not find empty tags.
        matches = [
            run_tags.get(key, "") == tags[key] for key in (provenance.EXPERIMENT, provenance.COMMIT)
        ]
        matches += [run_tags.get(provenance.MODELS, models) == models, has_params(run, params)]
        if all(matches) and not is_open(run):
            candidates.append(run)
    clone = provenance.clone_id()
    candidates.sort(key=lambda run: run.data.tags.get(provenance.CLONE) != clone)
    candidates.sort(key=lambda run: provenance.MODELS not in run.data.tags)
    return candidates[0] if candidates else None


def is_open(run: MlflowRun) -> bool:
    """Whether a process works on the run: RUNNING on any machine, or a living process on this."""
    return run.info.status == "RUNNING" or process_lock.is_alive(
        run.data.tags.get(process_lock.PROCESS, "")
    )


def find_stopped(params: Mapping[str, object], fingerprint: str) -> str | None:
    """The id of the newest run that was stopped while training what is to be trained now."""
    for run in _with_fingerprint(params, fingerprint):
        # One that was killed after its last tag lacks its end, and DVC lacks the model.
        is_complete = provenance.MODELS in run.data.tags and run.info.status != "KILLED"
        if not is_complete and not is_open(run) and has_params(run, params):
            return str(run.info.run_id)
    return None


def _with_fingerprint(params: Mapping[str, object], fingerprint: str) -> list[MlflowRun]:
    experiment = store.experiment_id(str(params[provenance.DATASET]))
    return store.search_runs(f"tags.`{provenance.FINGERPRINT}` = '{fingerprint}'", [experiment])


def close_abandoned() -> None:
    """Close the runs that killed processes left open, of this machine and of others."""
    is_own = store.connect()
    unreachable = set()
    for lock in process_lock.abandoned_locks():
        if lock.address in unreachable:
            continue
        try:
            _close_runs(lock)
        except UNREACHABLE:
            unreachable.add(lock.address)
            if not lock.is_old:  # the next start tries again
                continue
        lock.remove()
    if is_own and store.exists():
        _close_runs_without_lock()
    _close_runs_without_heartbeat()


def _close_runs_without_lock() -> None:
    """Close the runs in the project's own store whose locks were deleted with .cache."""
    host = f"tags.`{provenance.HOST}` = '{socket.gethostname()}'"
    for run in store.search_runs(f"{host} and attributes.status = 'RUNNING'"):
        if not process_lock.is_alive(run.data.tags.get(process_lock.PROCESS, "")):
            MlflowClient().set_terminated(run.info.run_id, "KILLED")


def _close_runs_without_heartbeat() -> None:
    """Close the runs whose processes died on other machines."""
    now = server_clock.read()
    if now is None:
        return
    client = MlflowClient()
    for run in store.search_runs(f"attributes.status = 'RUNNING' and tags.`{heartbeat.TAG}` != ''"):
        is_own = process_lock.is_alive(run.data.tags.get(process_lock.PROCESS, ""))
        # Asked again, since another machine may have closed and continued it meanwhile.
        if (
            heartbeat.is_stale(run, now)
            and not is_own
            and heartbeat.is_stale(client.get_run(run.info.run_id), now)
        ):
            with suppress(MlflowException):  # the server may refuse changes of others' runs
                client.set_terminated(run.info.run_id, "KILLED")


def _close_runs(lock: process_lock.AbandonedLock) -> None:
    """Close the runs of a killed process as KILLED."""
    file = sqlite.to_path(lock.address)
    if file is not None and not file.exists():
        return  # a client would create an empty database
    client = MlflowClient(lock.address)
    query = f"tags.`{process_lock.PROCESS}` = '{lock.name}' and attributes.status = 'RUNNING'"
    for run in store.search_runs(query, client=client):
        client.set_terminated(run.info.run_id, "KILLED")


def parent_tags(dataset: str, tags: Mapping[str, str]) -> dict[str, str]:
    """The tag that nests a queued or temporary experiment below its commit's parent run.

    Experiments in the workspace are not nested: people look at each of them.
    """
    if not tags[provenance.EXPERIMENT] or project.root() == Path.cwd():
        return {}
    commit = tags[provenance.COMMIT]
    experiment = store.experiment_id(dataset)
    with store.exclusive():
        runs = store.search_runs(f"tags.`queue.commit` = '{commit}'", [experiment])
        if runs and runs[0].info.status != "FINISHED":  # whoever created it was killed
            MlflowClient().set_terminated(runs[0].info.run_id)
        return {PARENT: runs[0].info.run_id if runs else _create_parent(experiment, commit)}


def _create_parent(experiment: str, commit: str) -> str:
    note = (
        "Experiments of DVC's queue and temporary folders (`dvc queue start`, `dvc exp run "
        f"--temp`) on commit `{commit[:7]}`: they are nested below."
    )
    lock = process_lock.ProcessLock(get_tracking_uri())
    tags = {"queue.commit": commit, "mlflow.note.content": note, **lock.tags}
    run = MlflowClient().create_run(experiment, tags=tags, run_name=queue_name(commit))
    MlflowClient().set_terminated(run.info.run_id)
    lock.remove()
    return str(run.info.run_id)
