"""Group near-duplicates by their perceptual hashes, without comparing every pair.

Single linkage: an image belongs to a group if it is near to one image of it.
"""

import numpy as np
import numpy.typing as npt

from pipeline.stages.filter.near_duplicates.components import Components, Ints

BITS = 64
MAX_COMPARED = 128  # hashes of which every pair is compared; larger runs are divided further

Hashes = npt.NDArray[np.uint64]
Members = npt.NDArray[np.int32]
"""Positions of hashes, or numbers of runs: many such arrays are in memory at a time."""


def group_hashes(hashes: Hashes, bits: int) -> Ints:
    """Number the groups of hashes that differ in at most `bits` bits from one of the group.

    Args:
        hashes: (N,) uint64, in any order, repeated or not.

    Returns:
        (N,) int64: equal numbers for one group.
    """
    distinct, positions = np.unique(hashes, return_inverse=True)
    components = Components(np.arange(len(distinct)))
    if bits and len(distinct):
        members = np.arange(len(distinct), dtype=np.int32)
        runs = np.zeros_like(members)
        _link(distinct, members, runs, list(range(BITS)), bits, components)
    return components.groups()[positions]


def _link(
    hashes: Hashes,
    members: Members,
    runs: Members,
    free: list[int],
    bits: int,
    components: Components,
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
        ordered, inner, sizes = _divide(hashes, members, runs, block)
        _compare_pairs(hashes, ordered, inner, sizes, bits, components)
        is_large = sizes[inner] > MAX_COMPARED
        if is_large.any():
            left = [position for position in free if position not in block]
            _link(hashes, ordered[is_large], inner[is_large], left, bits, components)


def _divide(
    hashes: Hashes, members: Members, runs: Members, block: list[int]
) -> tuple[Members, Members, Ints]:
    """Divide runs by the bits of a block: sorted members, the run of each, and runs' sizes."""
    keys = hashes[members] & np.uint64(sum(1 << position for position in block))
    order = np.lexsort((keys, runs))
    keys, runs = keys[order], runs[order]
    changes = (runs[1:] != runs[:-1]) | (keys[1:] != keys[:-1])
    return members[order], *_number_runs(changes, len(order))


def _blocks(values: Hashes, free: list[int], count: int) -> list[list[int]]:
    """Divide `free` into `count` blocks that separate the values about equally well."""
    shares = [float(np.mean((values >> np.uint64(position)) & np.uint64(1))) for position in free]
    by_balance = sorted(range(len(free)), key=lambda index: abs(shares[index] - 0.5))
    return [[free[index] for index in by_balance[start::count]] for start in range(count)]


def _is_apart(groups: Ints, runs: Members) -> npt.NDArray[np.bool_]:
    """For each member whether its run has members of several groups."""
    if not len(runs):
        return np.zeros(0, bool)
    inner, sizes = _number_runs(runs[1:] != runs[:-1], len(runs))
    starts = np.cumsum(sizes) - sizes
    least, most = np.minimum.reduceat(groups, starts), np.maximum.reduceat(groups, starts)
    return np.asarray(least != most)[inner]


def _number_runs(changes: npt.NDArray[np.bool_], count: int) -> tuple[Members, Ints]:
    """The run of each of `count` members, where a new run starts at each change; runs' sizes."""
    numbers = np.zeros(count, np.int32)
    np.cumsum(changes, dtype=np.int32, out=numbers[1:])
    return numbers, np.bincount(numbers)


def _compare_pairs(
    hashes: Hashes, ordered: Members, runs: Members, sizes: Ints, bits: int, components: Components
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
