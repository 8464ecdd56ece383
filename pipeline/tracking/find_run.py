"""Which run is of this training already: begun and stopped, whole, or left by a killed process."""

from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient, get_tracking_uri

from pipeline.core import project
from pipeline.tracking import process_lock, provenance, store
from pipeline.tracking.store import UNREACHABLE, MlflowRun

PARENT = "mlflow.parentRunId"


def same_params(run: MlflowRun, values: Mapping[str, object]) -> bool:
    """Whether a run has no other value than `values` (a killed one may lack some)."""
    mine = {key: spelled(value) for key, value in values.items()}
    return all(mine.get(key) == spelled(value) for key, value in run.data.params.items())


def spelled(value: object) -> str:
    """A param's value as text, in which numbers that are equal look alike: of another version's
    params it is not known whether 8 is a whole number."""
    try:
        return repr(float(str(value)))
    except ValueError:
        return str(value)


def find(values: Mapping[str, object], tags: Mapping[str, str], models: str) -> MlflowRun | None:
    """The newest run of this model, experiment, commit and params, be it whole or not.

    Args:
        values: Its params, by dotted name.
        models: DVC's digest of the model.
    """
    alike = []
    for run in _of_fingerprint(values, tags[provenance.FINGERPRINT]):
        known = run.data.tags
        # Compared here: a search does not find tags that are empty.
        same = [
            known.get(key, "") == tags[key] for key in (provenance.EXPERIMENT, provenance.COMMIT)
        ]
        same += [known.get(provenance.MODELS, models) == models, same_params(run, values)]
        if all(same) and not live(run):
            alike.append(run)
    return next(iter(sorted(alike, key=lambda run: provenance.MODELS not in run.data.tags)), None)


def live(run: MlflowRun) -> bool:
    """Whether another process works on it, here or, as far as anybody knows, elsewhere."""
    return run.info.status == "RUNNING" or process_lock.is_alive(
        run.data.tags.get(process_lock.PROCESS, "")
    )


def stopped(values: Mapping[str, object], fingerprint: str) -> str | None:
    """The newest run of a training that was stopped, and would come to the same."""
    for run in _of_fingerprint(values, fingerprint):
        whole = provenance.MODELS in run.data.tags
        if not whole and not live(run) and same_params(run, values):
            return str(run.info.run_id)
    return None


def _of_fingerprint(values: Mapping[str, object], fingerprint: str) -> list[MlflowRun]:
    place = store.experiment(str(values[provenance.DATASET]))
    return store.runs(f"tags.`{provenance.FINGERPRINT}` = '{fingerprint}'", [place])


def close_abandoned() -> None:
    """Close the runs that this machine's killed processes left open."""
    store.connect()
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


def _close_runs(lock: process_lock.AbandonedLock) -> None:
    """Close the runs of a killed process as KILLED."""
    file = Path(lock.address.removeprefix(store.SQLITE))
    if lock.address.startswith(store.SQLITE) and not file.exists():
        return  # a client would create an empty database
    client = MlflowClient(lock.address)
    query = f"tags.`{process_lock.PROCESS}` = '{lock.name}' and attributes.status = 'RUNNING'"
    for run in store.runs(query, client=client):
        client.set_terminated(run.info.run_id, "KILLED")


def parent(dataset: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Experiments that DVC runs aside, from its queue, are nested below one run for their commit.

    Those of the workspace are not: somebody looks at each.
    """
    if not tags[provenance.EXPERIMENT] or project.root() == Path.cwd():
        return {}
    commit = tags[provenance.COMMIT]
    place = store.experiment(dataset)
    with store.exclusive():
        found = store.runs(f"tags.`queue.commit` = '{commit}'", [place])
        return {PARENT: found[0].info.run_id if found else _open_parent(place, commit)}


def _open_parent(place: str, commit: str) -> str:
    note = (
        f"Experiments that DVC ran aside (`dvc queue start`, `dvc exp run --temp`) on commit "
        f"`{commit[:7]}`: they are nested below."
    )
    lock = process_lock.ProcessLock(get_tracking_uri())
    tags = {"queue.commit": commit, "mlflow.note.content": note, **lock.tags}
    made = MlflowClient().create_run(place, tags=tags, run_name=f"queue-{commit[:7]}")
    MlflowClient().set_terminated(made.info.run_id)
    lock.remove()
    return str(made.info.run_id)
