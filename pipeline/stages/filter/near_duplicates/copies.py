"""Link images of which one is a copy of the other, or of a part of it."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.core.shards import array
from pipeline.stages.filter.near_duplicates.alignment import Pairs, Thumbnails, coincide
from pipeline.stages.filter.near_duplicates.appearance import PATCH, PLACE, SCALES, THUMBNAIL
from pipeline.stages.filter.near_duplicates.candidates import Matches, PatchHashes
from pipeline.stages.filter.near_duplicates.components import Components, Ints

READ = 4096  # images whose hashes are read at a time
COMPARED = 256  # pairs that are laid over each other at a time

# From ids and the names of columns to rows of `judge_all.SCHEMA`.
Lookup: TypeAlias = Callable[[pa.Array, list[str]], pa.RecordBatch]
# The same, from the numbers of images to compare.
NodeLookup: TypeAlias = Callable[[Ints, list[str]], pa.RecordBatch]


def link_copies(
    ids: pa.Array,
    rows: Ints,
    ranks: npt.NDArray[np.integer],
    lookup: Lookup,
    folder: Path,
    into: Components,
) -> None:
    """Link images whose details coincide, unless they are linked already.

    Args:
        ids: Of all images; of those to compare, each is there once.
        rows: (N,): the images to compare, ascending; the nodes of `into`.
        ranks: The order of all images.
        folder: For a temporary file.
    """

    def look_up(nodes: Ints, columns: list[str]) -> pa.RecordBatch:
        return lookup(ids.take(array(rows[nodes])), columns)

    with PatchHashes(folder) as patches:
        for start in range(0, len(rows), READ):
            facts = look_up(np.arange(start, min(start + READ, len(rows))), ["patch_hashes"])
            data, lengths = _join(facts.column("patch_hashes"))
            patches.append(data.view(np.uint64), lengths // 8)
        for matches in patches.matches(ranks[rows]):
            _link_matches(matches, look_up, into)


def _link_matches(matches: Matches, look_up: NodeLookup, into: Components) -> None:
    """Try the matches of each pair, the most similar first, until its images are linked."""
    waiting = np.lexsort(
        (
            matches.right_patch,
            matches.left_patch,
            matches.bits,
            matches.right,
            matches.left,
        )
    )
    while len(waiting):
        groups = into.groups()
        left, right = matches.left[waiting], matches.right[waiting]
        is_apart = groups[left] != groups[right]
        waiting, left, right = waiting[is_apart], left[is_apart], right[is_apart]
        is_first = np.ones(len(waiting), bool)
        is_first[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
        tried = waiting[is_first]
        for start in range(0, len(tried), COMPARED):
            rows = tried[start : start + COMPARED]
            are_copies = coincide(_read_pairs(matches, rows, look_up))
            into.link(matches.left[rows[are_copies]], matches.right[rows[are_copies]])
        waiting = waiting[~is_first]


def _read_pairs(matches: Matches, rows: Ints, look_up: NodeLookup) -> Pairs:
    sides = np.stack([matches.left[rows], matches.right[rows]])
    images, positions = np.unique(sides, return_inverse=True)
    left, right = positions.reshape(sides.shape)
    facts = look_up(images, ["patch_places", "thumbnail", "width", "height"])
    places, place_sizes = _join(facts.column("patch_places"))
    place_starts = np.cumsum(place_sizes) - place_sizes
    thumbnails = _read_thumbnails(facts)

    def places_of(images: Ints, patches: Ints) -> npt.NDArray[np.void]:
        starts = place_starts[images] // PLACE.itemsize
        return np.asarray(places.view(PLACE)[starts + patches])

    maps = _map_patches(
        places_of(left, matches.left_patch[rows]), places_of(right, matches.right_patch[rows])
    )
    return Pairs(thumbnails.take(left), thumbnails.take(right), maps)


def _map_patches(
    left: npt.NDArray[np.void], right: npt.NDArray[np.void]
) -> npt.NDArray[np.float64]:
    """The maps that take a left patch to a right one, (N, 4)."""
    pixels = THUMBNAIL / np.array(SCALES)  # of the thumbnail, per pixel of a scale
    left_size, right_size = pixels[left["scale"]], pixels[right["scale"]]
    scale = right_size / left_size
    mirrors = np.where(left["mirrored"] == right["mirrored"], 1, -1)
    scales, shifts = (scale * mirrors, scale), []
    for axis, axis_scale in zip("xy", scales, strict=True):
        left_centre = (left[axis] + PATCH / 2) * left_size
        right_centre = (right[axis] + PATCH / 2) * right_size
        shifts.append(right_centre - axis_scale * left_centre)
    return np.stack([scales[0], shifts[0], scales[1], shifts[1]], axis=1)


def _read_thumbnails(facts: pa.RecordBatch) -> Thumbnails:
    data, sizes = _join(facts.column("thumbnail"))
    width, height = (facts.column(name).to_numpy() for name in ("width", "height"))
    longs, is_wide = sizes // THUMBNAIL, width >= height
    return Thumbnails(
        data.astype(np.float32),
        np.cumsum(sizes) - sizes,
        np.where(is_wide, THUMBNAIL, longs),
        np.where(is_wide, longs, THUMBNAIL),
    )


def _join(column: pa.Array) -> tuple[npt.NDArray[np.uint8], Ints]:
    """The bytes of a column one after the other, and how many each row has."""
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    values = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] if data else np.zeros(0, np.uint8)
    return values, np.diff(ends).astype(np.int64)
