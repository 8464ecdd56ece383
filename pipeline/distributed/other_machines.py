"""Results of other machines: those in the shared cache, and those of a cluster."""

from collections.abc import Callable

from pipeline.core import shards
from pipeline.distributed import cluster
from pipeline.distributed.cluster import Work, compute_on_cluster
from pipeline.distributed.shared_results import SharedResults


def gather(work: Work, share: Callable[[], SharedResults]) -> SharedResults:
    """Put into the memos what other machines have computed, or compute now.

    Args:
        share: Opens what machines share of the memos' results.

    Returns:
        What `share` opened last: offer it what this machine computes.

    Raises:
        PipelineError: the shared cache cannot be read, or the cluster cannot do the work.
    """
    paths, shared = shards.paths(work.shards), share()
    shared.fetch(paths)
    if cluster.is_set() and compute_on_cluster(work, shared.lacking(paths)):
        for memo in work.memos:
            memo.refresh()
        shared = share()
        shared.fetch(paths)
    return shared
