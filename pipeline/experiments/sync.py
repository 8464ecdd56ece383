"""Create and complete MLflow runs from results in DVC."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.core.errors import PipelineError
from pipeline.core.progress import bar
from pipeline.experiments import dvc_results, paired_runs
from pipeline.experiments.dvc_results import DvcResult
from pipeline.experiments.paired_runs import RUNNING, PairedRun
from pipeline.tracking import find_run, provenance, store
from pipeline.tracking.store import MlflowRun

if TYPE_CHECKING:
    from pipeline.tracking.result import TrainedResult


@dataclass(frozen=True)
class SyncedRun:
    """What was done for one result."""

    label: str
    action: str
    """`created` or `completed`, "" if neither was possible."""
    problem: str = ""
    is_server_problem: bool = False


def sync(all_commits: bool = False, workspace_only: bool = False) -> Iterator[SyncedRun]:
    """Create missing runs and complete incomplete ones; yield one record for each of them.

    Args:
        all_commits: Whether to search all commits, and not only branches and tags.
        workspace_only: Whether to sync only the result in the workspace.

    Raises:
        PipelineError: MLflow's store cannot be reached.
    """
    with ExitStack() as stack:
        with store.errors_as_sentences():
            stack.enter_context(store.exclusive("sync"))  # two would create each run twice
        yield from _sync_all(_read_gaps(all_commits, workspace_only))


def _read_gaps(all_commits: bool, workspace_only: bool) -> list[tuple[DvcResult, PairedRun]]:
    """Experiments first: a commit of the result of an experiment needs no other run."""
    workspace = dvc_results.workspace() if workspace_only else None
    gaps = [
        (pair.dvc_result, pair)
        for pair in paired_runs.paired_runs(all_commits)
        if pair.dvc_result and not pair.is_complete
    ]
    if workspace_only:
        gaps = [gap for gap in gaps if workspace and gap[0].is_same_result(workspace)]
    return sorted(gaps, key=lambda gap: (not gap[0].experiment, gap[0].time_ms))


def _sync_all(gaps: list[tuple[DvcResult, PairedRun]]) -> Iterator[SyncedRun]:
    synced_results: list[DvcResult] = []
    with bar("sync", len(gaps), "run") as progress:
        for result, pair in gaps:
            is_synced = any(result.is_same_result(other) for other in synced_results)
            if result.experiment or not is_synced:
                synced = _sync(pair, result)
                synced_results += [result] if synced.action else []
                yield synced
            progress.update()


def _existing_run(pair: PairedRun, restored: "TrainedResult") -> MlflowRun | None:
    """The run to complete, unless it has no model yet and was trained by other code."""
    if pair.run is None:
        return None
    tags = pair.run.data.tags
    is_same_code = tags.get(provenance.FINGERPRINT) == restored.tags[provenance.FINGERPRINT]
    return pair.run if is_same_code or provenance.MODELS in tags else None


def _sync(pair: PairedRun, result: DvcResult) -> SyncedRun:
    from pipeline.experiments.restore import restore  # imports torch, which takes seconds
    from pipeline.tracking import record

    try:
        with restore(result) as restored:
            with store.errors_as_sentences():
                run = _existing_run(pair, restored) or find_run.find(
                    result.params, restored.tags, result.models_md5
                )
            if run is not None and run.info.status == RUNNING:
                return SyncedRun(result.label, "", f"its run {run.info.run_id[:8]} still runs")
            if not record.complete(restored, run):
                return SyncedRun(result.label, "", f"{store.address()} failed: sync again", True)
    except PipelineError as error:
        return SyncedRun(result.label, "", str(error))
    return SyncedRun(result.label, "created" if run is None else "completed")
