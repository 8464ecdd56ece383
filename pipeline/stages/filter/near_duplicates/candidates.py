"""Candidates: pairs of patches of different images whose hashes are nearly equal.

Many hashes lie in a temporary file and are compared part by part, so that memory does not grow
with the number of images.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from pipeline.stages.filter.near_duplicates.components import Ints

KEY_BITS = 24  # of the 63, the lowest frequencies, in which candidates agree
MAX_BITS = 6  # that differ among the others
WINDOW = 64  # following hashes with the same key that each is compared with
PART = 1_000_000  # hashes that are compared at a time, about
BLOCK = 1_000_000  # hashes that are read at a time
IN_MEMORY = 16 * 2**20  # bytes of hashes; more are on disk

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Matches:
    """Pairs of similar patches, in no order, (M,) each."""

    left: Ints
    """The position of an image."""
    right: Ints
    """The position of another."""
    left_patch: Ints
    """The number of the patch in its image."""
    right_patch: Ints
    bits: Ints
    """Bits that differ."""


class PatchHashes:
    """Hashes of the patches of N images; many are in a temporary file. A context manager."""

    def __init__(self, folder: Path) -> None:
        # Closed by `__exit__`.
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, dir=str(folder))  # noqa: SIM115
        self._counts: list[npt.NDArray[np.uint8]] = []

    def __enter__(self) -> "PatchHashes":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def append(self, hashes: Hashes, counts: Ints) -> None:
        """Add images: the hashes of one after those of the other, and how many each has."""
        self._file.write(hashes.tobytes())
        self._counts.append(counts.astype(np.uint8))

    def matches(self, ranks: npt.NDArray[np.integer]) -> Iterator[Matches]:
        """Yield matches, each once.

        Args:
            ranks: (N,): different numbers, by which equal hashes are ordered. The left image of a
                match is that with the lower one.
        """
        counts = np.concatenate(self._counts) if self._counts else np.zeros(0, np.uint8)
        ends = np.cumsum(counts, dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 0
        parts = -(-total // PART)
        for part in range(parts):
            hashes, numbers = self._read_part(part, parts, total)
            images = np.searchsorted(ends, numbers, side="right")
            patches = numbers - (ends[images] - counts[images])
            yield _match(hashes, images, patches, ranks)

    def _read_part(self, part: int, parts: int, total: int) -> tuple[Hashes, Ints]:
        """The hashes whose keys belong to a part, and their positions among all."""
        hashes, numbers = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        self._file.seek(0)
        for start in range(0, total, BLOCK):
            block = np.frombuffer(self._file.read(8 * min(BLOCK, total - start)), np.uint64)
            rows = np.flatnonzero(_scatter(_keys(block)) % np.uint64(parts) == part)
            hashes.append(block[rows])
            numbers.append(start + rows)
        return np.concatenate(hashes), np.concatenate(numbers)


def _keys(hashes: Hashes) -> Hashes:
    return hashes >> np.uint64(63 - KEY_BITS)


def _scatter(keys: Hashes) -> Hashes:
    """Numbers with as many of each remainder: keys themselves are uneven."""
    return (keys * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)


def _match(hashes: Hashes, images: Ints, patches: Ints, ranks: npt.NDArray[np.integer]) -> Matches:
    order = np.lexsort((patches, ranks[images], hashes))
    hashes, images, patches = hashes[order], images[order], patches[order]
    keys = _keys(hashes)
    firsts, seconds = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for distance in range(1, min(WINDOW, len(hashes) - 1) + 1):
        has_same_key = keys[distance:] == keys[:-distance]
        if not has_same_key.any():
            break
        is_near = np.bitwise_count(hashes[distance:] ^ hashes[:-distance]) <= MAX_BITS
        is_other = images[distance:] != images[:-distance]
        rows = np.flatnonzero(has_same_key & is_near & is_other)
        firsts.append(rows)
        seconds.append(rows + distance)
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    is_ordered = ranks[images[first]] < ranks[images[second]]
    left, right = np.where(is_ordered, first, second), np.where(is_ordered, second, first)
    bits = np.bitwise_count(hashes[left] ^ hashes[right]).astype(np.int64)
    return Matches(images[left], images[right], patches[left], patches[right], bits)
