"""MLflow made to hold what DVC holds."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.errors import PipelineError
from pipeline.experiments import joined
from pipeline.experiments.held import Held
from pipeline.experiments.joined import LIVE, Pair
from pipeline.progress import bar
from pipeline.tracking import found, store


@dataclass(frozen=True)
class Synced:
    """What became of one result."""

    name: str
    made: str
    """`created` or `completed`, or "" where it could not be."""
    problem: str = ""
    refused: bool = False
    """Whether MLflow was the problem."""


def sync(everything: bool = False) -> Iterator[Synced]:
    """Create the runs that are missing, complete those that are not whole; yield each of these.

    Args:
        everything: Whether to look at all commits, and not only at branches and tags.

    Raises:
        PipelineError: MLflow's store does not answer.
    """
    gaps = [(pair.held, pair) for pair in joined.pairs(everything) if pair.held and not pair.whole]
    # Experiments first: a commit that holds the result of one needs no run of its own.
    gaps.sort(key=lambda gap: (not gap[0].experiment, gap[0].when))
    done: list[Held] = []
    with bar("sync", len(gaps), "run") as shown:
        for held, pair in gaps:
            if held.experiment or not any(held.like(other) for other in done):
                synced = _synced(pair, held)
                done += [held] if synced.made else []
                yield synced
            shown.update()


def _synced(pair: Pair, held: Held) -> Synced:
    from pipeline.experiments.restored import outcome  # with torch: seconds, where nothing is due
    from pipeline.tracking import record

    try:
        with outcome(held) as restored:
            with store.reached():
                begun = pair.run or found.find(held.settings, restored.tags, held.models)
            if begun is not None and begun.info.status == LIVE:
                return Synced(held.label, "", f"its run {begun.info.run_id[:8]} still runs")
            if not record.complete(restored, begun):
                return Synced(held.label, "", f"{store.address()} failed: sync again", True)
    except PipelineError as error:
        return Synced(held.label, "", str(error))
    return Synced(held.label, "created" if begun is None else "completed")
