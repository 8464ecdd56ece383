"""Which run is of this training already: begun and stopped, whole, or left by a killed process."""

from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient

from pipeline import project
from pipeline.params import Params
from pipeline.tracking import alive, origin, store
from pipeline.tracking.store import UNREACHABLE, Known

PARENT = "mlflow.parentRunId"


def same_params(run: Known, settings: Params) -> bool:
    """Whether a run has no other value than `settings` (a killed one may lack some)."""
    mine = {key: str(value) for key, value in settings.flat().items()}
    return all(mine.get(key) == value for key, value in run.data.params.items())


def find(settings: Params, tags: Mapping[str, str], models: str) -> Known | None:
    """The newest run of this model, experiment, commit and params, be it whole or not.

    Args:
        models: DVC's digest of the model.
    """
    for run in _of_fingerprint(settings, tags[origin.FINGERPRINT]):
        known = run.data.tags
        # Compared here: a search does not find tags that are empty.
        same = [known.get(key, "") == tags[key] for key in (origin.EXPERIMENT, origin.COMMIT)]
        same += [known.get(origin.MODELS, models) == models, same_params(run, settings)]
        if all(same):
            return run
    return None


def stopped(settings: Params, fingerprint: str) -> str | None:
    """The newest run of a training that was stopped, and would come to the same."""
    try:
        for run in _of_fingerprint(settings, fingerprint):
            stopped = run.info.status != "RUNNING" and origin.MODELS not in run.data.tags
            if stopped and same_params(run, settings):
                return str(run.info.run_id)
    except UNREACHABLE:
        pass  # starting a run says what is wrong
    return None


def _of_fingerprint(settings: Params, fingerprint: str) -> list[Known]:
    place = store.experiment(settings.dataset.name)
    return store.runs(f"tags.`{origin.FINGERPRINT}` = '{fingerprint}'", [place])


def close_abandoned() -> None:
    """Close the runs that this machine's killed processes left open."""
    store.connect()
    for left in alive.abandoned():
        try:
            client = MlflowClient(left.address)
            if client.get_run(left.run_id).info.status == "RUNNING":
                client.set_terminated(left.run_id, "KILLED")
        except UNREACHABLE:
            continue  # another time
        left.forget()


def parent(settings: Params, tags: Mapping[str, str]) -> dict[str, str]:
    """Experiments that DVC runs aside, from its queue, are nested below one run for their commit.

    Those of the workspace are not: somebody looks at each.
    """
    if not tags[origin.EXPERIMENT] or project.root() == Path.cwd():
        return {}
    commit = tags[origin.COMMIT]
    try:
        place = store.experiment(settings.dataset.name)
        with store.alone():
            found = store.runs(f"tags.`queue.commit` = '{commit}'", [place])
            return {PARENT: found[0].info.run_id if found else _open_parent(place, commit)}
    except UNREACHABLE:
        return {}


def _open_parent(place: str, commit: str) -> str:
    note = (
        f"Experiments that DVC ran aside (`dvc queue start`, `dvc exp run --temp`) on commit "
        f"`{commit[:7]}`: they are nested below."
    )
    tags = {"queue.commit": commit, "mlflow.note.content": note}
    made = MlflowClient().create_run(place, tags=tags, run_name=f"queue-{commit[:7]}")
    MlflowClient().set_terminated(made.info.run_id)
    return str(made.info.run_id)
