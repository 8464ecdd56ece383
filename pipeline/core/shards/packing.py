"""Choose which shards to write anew when rows were added, changed or removed.

New rows go into new shards, and a shard that lost a row is written anew. Small shards are merged
with them, as in a log-structured merge tree: a shard is merged once as many rows have arrived as
it has, so that a row is rewritten a logarithmic number of times.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.core.shards import writer

MAX_MERGED = 0.02  # of all rows in a run, or twice the new ones if these are more
SMALL = 0.5  # of a full shard: two larger ones cannot be merged into one
# Of all rows: if fewer are in unchanged shards, all are written anew, in the source's order.
MIN_UNCHANGED = 0.5

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ShardUse:
    """What a run uses of each of the last shards, followed by those with its new rows."""

    rows: npt.NDArray[np.int64]
    """(S,): rows in the shard."""
    used: npt.NDArray[np.int64]
    """(S,): rows of it that the run has too."""
    bytes: npt.NDArray[np.int64]
    """(S,): of the file."""
    last: int
    """Number of last shards."""

    def fill(self) -> Floats:
        """(S,): how full a shard would be with its used rows alone; 1 is full."""
        share = self.used / np.maximum(self.rows, 1)
        full = np.maximum(self.used / writer.ROWS, share * self.bytes / writer.BYTES)
        return np.asarray(full)


def select_rewritten(use: ShardUse) -> Bools:
    """(S,): the shards whose used rows are written into other shards."""
    fill = use.fill()
    is_new = np.arange(len(fill)) >= use.last
    is_rewritten = (use.used < use.rows) & (use.used > 0)
    loose = fill[is_rewritten].sum() + fill[is_new & (fill < SMALL)].sum()
    budget = max(MAX_MERGED * fill.sum(), 2 * fill[is_new].sum())
    candidates = ~is_rewritten & ~is_new & (fill < SMALL) & (use.used > 0)
    for shard in sorted(np.flatnonzero(candidates), key=lambda shard: float(fill[shard])):
        if fill[shard] > min(loose, budget):
            break
        is_rewritten[shard] = True
        loose += fill[shard]
        budget -= fill[shard]
    if is_rewritten.any():
        is_rewritten |= is_new & (fill < SMALL)
    unchanged = fill[~is_rewritten & ~is_new].sum()
    if is_rewritten.any() and unchanged < MIN_UNCHANGED * fill.sum():
        return np.ones(len(fill), bool)
    return is_rewritten
