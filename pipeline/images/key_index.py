"""Where the results of images are, by key: an index in columns, 16 bytes per image; sets of keys.

Keys are strings. The index holds 64-bit digests of them, sorted, each with a position. Two keys
may have the same digest, so what the index returns are candidates: the caller compares the keys.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import columns
from pipeline.core.shards import array

UInt64Array = npt.NDArray[np.uint64]
BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]

WORD = 8  # bytes of a key that are multiplied at a time
MULTIPLIER = 0x9E3779B97F4A7C15  # odd: 2**64 divided by the golden ratio


def digest_keys(keys: pa.Array) -> UInt64Array:
    """A number per key, which depends on that key alone.

    Args:
        keys: Strings, none of them null.
    """
    if not len(keys):
        return np.empty(0, np.uint64)
    _, offset_buffer, data = keys.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32)[keys.offset :][: len(keys) + 1]
    text = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
    lengths = np.diff(offsets)
    digests = np.empty(len(keys), np.uint64)
    for length in np.unique(lengths):  # those of images all have the same
        rows = np.flatnonzero(lengths == length)
        words = -(-length // WORD)
        padded = np.zeros((len(rows), words * WORD), np.uint8)
        if len(rows) == len(keys):  # without the indices, which take eight times the text
            padded[:, :length] = text[offsets[0] : offsets[-1]].reshape(len(rows), length)
        else:
            padded[:, :length] = text[offsets[rows, np.newaxis] + np.arange(length)]
        factors = (2 * np.arange(words, dtype=np.uint64) + 1) * np.uint64(MULTIPLIER)
        digests[rows] = padded.view("<u8") @ factors  # modulo 2**64
    return digests


class KeyIndex:
    """Positions by digest, in sorted runs of which each is at least twice as long as the next."""

    def __init__(self) -> None:
        self._runs: list[tuple[UInt64Array, Int64Array]] = []

    def add(self, digests: UInt64Array, positions: Int64Array) -> None:
        """Add entries; a digest may be in the index already."""
        run = _sorted(digests, positions)
        while self._runs and len(self._runs[-1][0]) < 2 * len(run[0]):
            earlier = self._runs.pop()
            columns = [np.concatenate(parts) for parts in zip(earlier, run, strict=True)]
            run = _sorted(columns[0], columns[1])
        self._runs.append(run)

    def remove(self, positions: Int64Array) -> None:
        """Remove all entries at these positions."""
        runs = self._runs
        self._runs = []
        for run, places in runs:
            stays = ~np.isin(places, positions)
            self._runs.append((run[stays], places[stays]))

    def candidates(self, digests: UInt64Array) -> Iterator[tuple[Int64Array, Int64Array]]:
        """Yield rows of `digests` and as many positions with these digests, in rounds.

        A round has a row at most once. Together they have all positions of all rows.
        """
        for run, positions in self._runs:
            for rows, places in _rounds(run, digests):
                yield rows, positions[places]

    def move(self, digests: UInt64Array, old: Int64Array, new: Int64Array) -> None:
        """Replace the positions `old` of entries with these digests by `new`."""
        for run, positions in self._runs:
            for rows, places in _rounds(run, digests):
                is_old = positions[places] == old[rows]
                positions[places[is_old]] = new[rows[is_old]]


class KeySet:
    """A set of keys: their texts as they are, and an index."""

    def __init__(self, keys: pa.StringArray) -> None:
        self._keys = keys
        self._index = KeyIndex()
        self._index.add(digest_keys(keys), np.arange(len(keys)))

    def __len__(self) -> int:
        return len(self._keys)

    def contains(self, keys: pa.StringArray) -> BoolArray:
        """Whether each of some keys is in the set."""
        is_member = np.zeros(len(keys), bool)
        for rows, positions in self._index.candidates(digest_keys(keys)):
            stored = self._keys.take(array(positions))
            is_member[rows] |= columns.mask(pc.equal(stored, keys.take(array(rows))))
        return is_member


def _rounds(run: UInt64Array, digests: UInt64Array) -> Iterator[tuple[Int64Array, Int64Array]]:
    """Yield rows of `digests`, and for each a place in `run` that has its digest."""
    first, end = (np.searchsorted(run, digests, side=side) for side in ("left", "right"))
    rows = np.flatnonzero(first < end)
    places = first[rows]
    while len(rows):
        yield rows, places
        has_more = places + 1 < end[rows]
        rows, places = rows[has_more], places[has_more] + 1


def _sorted(digests: UInt64Array, positions: Int64Array) -> tuple[UInt64Array, Int64Array]:
    order = np.argsort(digests, kind="stable")  # linear where two sorted runs are joined
    return digests[order], positions[order]
