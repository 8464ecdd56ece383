"""Groups of near-duplicates among perceptual hashes, without comparing each with each.

By single linkage: what is near to one of a group belongs to it.
"""

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

BITS = 64
COMPARED = 128  # hashes that are compared each with each; more of them are divided further

Hashes = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]


def groups(hashes: Hashes, bits: int) -> Numbers:
    """Number the groups of hashes that differ in at most `bits` bits from one of the group.

    Args:
        hashes: (N,) uint64, in any order, repeated or not.

    Returns:
        (N,) int64: equal numbers for one group.
    """
    distinct, where = np.unique(hashes, return_inverse=True)
    linked = _Linked(len(distinct))
    if bits and len(distinct):
        everything = np.arange(len(distinct))
        _link(distinct, everything, np.zeros_like(everything), list(range(BITS)), bits, linked)
    return linked.groups()[where]


class _Linked:
    """Which of N things hang together."""

    def __init__(self, count: int) -> None:
        self._group = np.arange(count)
        self._pending: list[tuple[Numbers, Numbers]] = []
        self._count = 0

    def join(self, ones: Numbers, others: Numbers) -> None:
        """Link each of `ones` to that of `others`."""
        self._pending.append((ones, others))
        self._count += len(ones)
        if self._count > 2 * len(self._group):  # what is known is worked in when that pays
            self.groups()

    def groups(self) -> Numbers:
        """(N,): equal numbers for what hangs together."""
        if self._pending:
            count = len(self._group)
            sides = zip(*self._pending, strict=True)
            ones, others = (self._group[np.concatenate(side)] for side in sides)
            links = coo_array((np.ones(len(ones), bool), (ones, others)), shape=(count, count))
            _, component = connected_components(links, directed=False)
            self._group = component.astype(np.int64)[self._group]
            self._pending, self._count = [], 0
        return self._group


def _link(
    hashes: Hashes, members: Numbers, run: Numbers, free: list[int], bits: int, linked: _Linked
) -> None:
    """Link the members of each run that differ in at most `bits` bits.

    Of `bits + 1` blocks of bit positions at least one is untouched by `bits` differences, so it
    suffices to look among those that agree on a whole block; where these are many, they are
    divided by the remaining positions in the same way.

    Args:
        members: Positions in `hashes`, sorted by run.
        run: Their runs. All of a run agree on the bit positions that are not in `free`.
    """
    for block in _blocks(hashes[members], free, bits + 1):
        apart = _is_apart(linked.groups()[members], run)
        members, run = members[apart], run[apart]
        keys = hashes[members] & np.uint64(sum(1 << position for position in block))
        order = np.lexsort((keys, run))
        ordered, keys, runs = members[order], keys[order], run[order]
        inner, sizes = _runs((runs[1:] != runs[:-1]) | (keys[1:] != keys[:-1]), len(ordered))
        _compare(hashes, ordered, inner, sizes, bits, linked)
        many = sizes[inner] > COMPARED
        if many.any():
            left = [position for position in free if position not in block]
            _link(hashes, ordered[many], inner[many], left, bits, linked)


def _blocks(values: Hashes, free: list[int], count: int) -> list[list[int]]:
    """`free` in `count` blocks that tell the values apart about equally well."""
    ones = [float(np.mean((values >> np.uint64(position)) & np.uint64(1))) for position in free]
    telling = sorted(range(len(free)), key=lambda place: abs(ones[place] - 0.5))
    return [[free[place] for place in telling[number::count]] for number in range(count)]


def _is_apart(group: Numbers, run: Numbers) -> npt.NDArray[np.bool_]:
    """For each member whether its run has members of several groups."""
    if not len(run):
        return np.zeros(0, bool)
    inner, sizes = _runs(run[1:] != run[:-1], len(run))
    starts = np.cumsum(sizes) - sizes
    least, most = np.minimum.reduceat(group, starts), np.maximum.reduceat(group, starts)
    return np.asarray(least != most)[inner]


def _runs(changes: npt.NDArray[np.bool_], count: int) -> tuple[Numbers, Numbers]:
    """The run of each of `count` things, which begins anew where `changes`; and the runs' sizes."""
    number = np.concatenate([np.zeros(min(count, 1), np.int64), np.cumsum(changes)])
    return number, np.bincount(number)


def _compare(
    hashes: Hashes, ordered: Numbers, run: Numbers, sizes: Numbers, bits: int, linked: _Linked
) -> None:
    """Compare each with each in all runs of 2 to `COMPARED` members.

    Runs of similar size at a time, and their members at each distance from one another at once.
    """
    least = 1
    while least < COMPARED:
        chosen = ((sizes > least) & (sizes <= 2 * least))[run]
        least *= 2
        part, number = ordered[chosen], run[chosen]
        values = hashes[part]
        for distance in range(1, min(least, len(part))):
            same = number[distance:] == number[:-distance]
            close = np.bitwise_count(values[distance:] ^ values[:-distance]) <= bits
            found = np.flatnonzero(same & close)
            if len(found):
                linked.join(part[found], part[found + distance])
