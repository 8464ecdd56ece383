"""MLflow made to hold what DVC holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.core.errors import PipelineError
from pipeline.core.progress import bar
from pipeline.experiments import dvc_results, paired_runs
from pipeline.experiments.dvc_results import DvcResult
from pipeline.experiments.paired_runs import LIVE, PairedRun
from pipeline.tracking import find_run, provenance, store
from pipeline.tracking.store import MlflowRun

if TYPE_CHECKING:
    from pipeline.tracking.record import TrainedResult


@dataclass(frozen=True)
class SyncedRun:
    """What became of one result."""

    name: str
    made: str
    """`created` or `completed`, or "" where it could not be."""
    problem: str = ""
    refused: bool = False
    """Whether MLflow was the problem."""


def sync(everything: bool = False, here: bool = False) -> Iterator[SyncedRun]:
    """Create the runs that are missing, complete those that are not whole; yield each of these.

    Args:
        everything: Whether to look at all commits, and not only at branches and tags.
        here: Whether to look at nothing but what the workspace holds.

    Raises:
        PipelineError: MLflow's store does not answer.
    """
    with store.exclusive("sync"):  # or two would make each run twice
        yield from _all_synced(_gaps(everything, here))


def _gaps(everything: bool, here: bool) -> list[tuple[DvcResult, PairedRun]]:
    """Experiments first: a commit that holds the result of one needs no run of its own."""
    own = dvc_results.workspace() if here else None
    found = [
        (pair.held, pair)
        for pair in paired_runs.paired_runs(everything)
        if pair.held and not pair.whole and (not here or (own and pair.held.like(own)))
    ]
    return sorted(found, key=lambda gap: (not gap[0].experiment, gap[0].when))


def _all_synced(gaps: list[tuple[DvcResult, PairedRun]]) -> Iterator[SyncedRun]:
    done: list[DvcResult] = []
    with bar("sync", len(gaps), "run") as shown:
        for each, pair in gaps:
            if each.experiment or not any(each.like(other) for other in done):
                synced = _synced(pair, each)
                done += [each] if synced.made else []
                yield synced
            shown.update()


def _begun(pair: PairedRun, restored: "TrainedResult") -> MlflowRun | None:
    """The pair's run, unless it has no model yet and is of a training with other code."""
    if pair.run is None:
        return None
    tags = pair.run.data.tags
    same = tags.get(provenance.FINGERPRINT) == restored.tags[provenance.FINGERPRINT]
    return pair.run if same or provenance.MODELS in tags else None


def _synced(pair: PairedRun, result: DvcResult) -> SyncedRun:
    from pipeline.experiments.restore import outcome  # with torch: seconds, where nothing is due
    from pipeline.tracking import record

    try:
        with outcome(result) as restored:
            with store.errors_as_sentences():
                begun = _begun(pair, restored) or find_run.find(
                    result.values, restored.tags, result.models
                )
            if begun is not None and begun.info.status == LIVE:
                return SyncedRun(result.label, "", f"its run {begun.info.run_id[:8]} still runs")
            if not record.complete(restored, begun):
                return SyncedRun(result.label, "", f"{store.address()} failed: sync again", True)
    except PipelineError as error:
        return SyncedRun(result.label, "", str(error))
    return SyncedRun(result.label, "created" if begun is None else "completed")
