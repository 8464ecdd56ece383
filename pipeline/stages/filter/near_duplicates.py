"""Group near-duplicates by their perceptual hashes, without comparing every pair.

Single linkage: an image belongs to a group if it is near to one image of it.
"""

import numpy as np
import numpy.typing as npt

BITS = 64
MAX_COMPARED = 128  # hashes of which every pair is compared; larger runs are divided further

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]


def group_hashes(hashes: Hashes, bits: int) -> Ints:
    """Number the groups of hashes that differ in at most `bits` bits from one of the group.

    Args:
        hashes: (N,) uint64, in any order, repeated or not.

    Returns:
        (N,) int64: equal numbers for one group.
    """
    distinct, positions = np.unique(hashes, return_inverse=True)
    components = _Components(len(distinct))
    if bits and len(distinct):
        members = np.arange(len(distinct))
        runs = np.zeros_like(members)
        _link(distinct, members, runs, list(range(BITS)), bits, components)
    return components.groups()[positions]


class _Components:
    """Connected components of N nodes, whose links arrive in batches.

    scipy's DisjointSet takes one link a call: a million hashes take 98 s with it, 17 s with this.
    """

    def __init__(self, count: int) -> None:
        self._groups = np.arange(count)
        self._pending: list[tuple[Ints, Ints]] = []
        self._count = 0

    def link(self, left: Ints, right: Ints) -> None:
        """Link each node of `left` to the one at the same position in `right`."""
        self._pending.append((left, right))
        self._count += len(left)
        if self._count > 2 * len(self._groups):  # bounds the memory of pending links
            self.groups()

    def groups(self) -> Ints:
        """(N,): equal numbers for nodes of one component."""
        if self._pending:
            from scipy.sparse import coo_array  # few data sets have near-duplicates
            from scipy.sparse.csgraph import connected_components

            count = len(self._groups)
            sides = zip(*self._pending, strict=True)
            left, right = (self._groups[np.concatenate(side)] for side in sides)
            links = coo_array((np.ones(len(left), bool), (left, right)), shape=(count, count))
            _, component = connected_components(links, directed=False)
            self._groups = component.astype(np.int64)[self._groups]
            self._pending, self._count = [], 0
        return self._groups


def _link(
    hashes: Hashes,
    members: Ints,
    runs: Ints,
    free: list[int],
    bits: int,
    components: _Components,
) -> None:
    """Link the members of each run that differ in at most `bits` bits.

    `bits` differences leave at least one of `bits + 1` blocks of bit positions untouched, so only
    hashes that agree on a whole block need comparing. Where these are too many, they are divided by
    the remaining positions in the same way.

    Args:
        members: Positions in `hashes`, sorted by run.
        runs: The run of each member. Members of a run agree on all bit positions but `free`.
    """
    for block in _blocks(hashes[members], free, bits + 1):
        apart = _is_apart(components.groups()[members], runs)
        members, runs = members[apart], runs[apart]
        keys = hashes[members] & np.uint64(sum(1 << position for position in block))
        order = np.lexsort((keys, runs))
        ordered, keys, ordered_runs = members[order], keys[order], runs[order]
        changes = (ordered_runs[1:] != ordered_runs[:-1]) | (keys[1:] != keys[:-1])
        inner, sizes = _number_runs(changes, len(ordered))
        _compare_pairs(hashes, ordered, inner, sizes, bits, components)
        is_large = sizes[inner] > MAX_COMPARED
        if is_large.any():
            left = [position for position in free if position not in block]
            _link(hashes, ordered[is_large], inner[is_large], left, bits, components)


def _blocks(values: Hashes, free: list[int], count: int) -> list[list[int]]:
    """Divide `free` into `count` blocks that separate the values about equally well."""
    shares = [float(np.mean((values >> np.uint64(position)) & np.uint64(1))) for position in free]
    by_balance = sorted(range(len(free)), key=lambda index: abs(shares[index] - 0.5))
    return [[free[index] for index in by_balance[start::count]] for start in range(count)]


def _is_apart(groups: Ints, runs: Ints) -> npt.NDArray[np.bool_]:
    """For each member whether its run has members of several groups."""
    if not len(runs):
        return np.zeros(0, bool)
    inner, sizes = _number_runs(runs[1:] != runs[:-1], len(runs))
    starts = np.cumsum(sizes) - sizes
    least, most = np.minimum.reduceat(groups, starts), np.maximum.reduceat(groups, starts)
    return np.asarray(least != most)[inner]


def _number_runs(changes: npt.NDArray[np.bool_], count: int) -> tuple[Ints, Ints]:
    """The run of each of `count` members, where a new run starts at each change; runs' sizes."""
    numbers = np.concatenate([np.zeros(min(count, 1), np.int64), np.cumsum(changes)])
    return numbers, np.bincount(numbers)


def _compare_pairs(
    hashes: Hashes, ordered: Ints, runs: Ints, sizes: Ints, bits: int, components: _Components
) -> None:
    """Compare every pair of each run of 2 to `MAX_COMPARED` members.

    Runs of similar size together, and all pairs at one distance within their runs at once.
    """
    least = 1
    while least < MAX_COMPARED:
        is_similar = ((sizes > least) & (sizes <= 2 * least))[runs]
        least *= 2
        members, member_runs = ordered[is_similar], runs[is_similar]
        values = hashes[members]
        for distance in range(1, min(least, len(members))):
            same_run = member_runs[distance:] == member_runs[:-distance]
            near = np.bitwise_count(values[distance:] ^ values[:-distance]) <= bits
            pairs = np.flatnonzero(same_run & near)
            if len(pairs):
                components.link(members[pairs], members[pairs + distance])
