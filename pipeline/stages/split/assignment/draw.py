"""The randomness of the split: a position in [0, 1) for each key, and a leader for each group.

Both are salted hashes of keys (`stable_hash`), so what else is in the data set does not matter.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.core import columns
from pipeline.core.shards import array
from pipeline.core.stable_hash import unit_interval
from pipeline.stages.split.assignment.groups import Groups

Positions = npt.NDArray[np.float64]
KeyNumbers = npt.NDArray[np.int64]


def positions(keys: pa.Array, seed: int, salt: str = "") -> Positions:
    """A number in [0, 1) for each of some keys."""
    numbers = (unit_interval(salt + key, seed) for key in columns.iterate(keys))
    return np.fromiter(numbers, np.float64, len(keys))


def draw_leaders(
    groups: Groups, seed: int, candidates: npt.NDArray[np.bool_] | None = None
) -> KeyNumbers:
    """Draw the key whose position places each group, as its number; -1 where none can lead.

    Not the key with the lowest position, or large groups would be in val more often.

    Args:
        candidates: Whether each key may lead; all may by default.
    """
    keys = np.arange(len(groups.keys)) if candidates is None else np.flatnonzero(candidates)
    of_key = groups.of_key[keys]
    leaders = np.full(len(groups), -1)
    leaders[of_key] = keys  # of a group with one candidate
    is_drawn = np.bincount(of_key, minlength=len(groups))[of_key] > 1
    keys, of_key = keys[is_drawn], of_key[is_drawn]
    ranks = positions(groups.keys.take(array(keys)), seed, "leader ")
    order = np.lexsort((ranks, of_key))[::-1]  # the lowest of each group last, so that it stays
    leaders[of_key[order]] = keys[order]
    return leaders
