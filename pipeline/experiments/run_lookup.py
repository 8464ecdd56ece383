"""The run that a person names, or that made what is in the workspace."""

from pipeline.core.errors import PipelineError
from pipeline.experiments import dvc_results, paired_runs
from pipeline.tracking import provenance, store
from pipeline.tracking.store import MlflowRun

MIN_ID_LENGTH = 4  # characters


def find_run(name: str) -> MlflowRun:
    """The run of a training, by its name (then the newest), its id or the start of its id.

    Raises:
        PipelineError: there is none, or there are several.
    """
    with store.errors_as_sentences():
        runs = store.search_runs(f"tags.`{provenance.FINGERPRINT}` != ''") if store.exists() else []
    named = [run for run in runs if run.info.run_name == name]
    if named:
        return named[0]
    if len(name) < MIN_ID_LENGTH:
        raise PipelineError(
            f"{name!r} is too short for a run's id: give at least {MIN_ID_LENGTH} characters"
        )
    matches = [run for run in runs if run.info.run_id.startswith(name.lower())]
    if len(matches) == 1:
        return matches[0]
    ids = ", ".join(run.info.run_id[:12] for run in matches[:5])
    problem = (
        f"several ids begin with {name} ({ids})" if matches else f"no training run is called {name}"
    )
    raise PipelineError(f"{problem} at {store.address()}: `pipeline runs` lists them")


def find_workspace_run() -> MlflowRun:
    """The run of the model in the workspace.

    Raises:
        PipelineError: the workspace has no complete result, or MLflow no run of it.
    """
    result = dvc_results.workspace()
    if result is None:
        raise PipelineError("the workspace has no trained and tested model: `dvc repro` makes one")
    with store.errors_as_sentences():
        query = f"tags.`{provenance.MODELS}` = '{result.models_md5}'"
        runs = store.search_runs(query) if store.exists() else []
    run = paired_runs.best_run(result, runs)
    if run is None:
        raise PipelineError(
            f"MLflow at {store.address()} has no run of the model in the workspace: `pipeline sync`"
        )
    return run
