"""Compare all images with each other: copies, and near-duplicates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import columns, project
from pipeline.core.shards import array, split_rank
from pipeline.images.header import RejectReason
from pipeline.params import FilterParams
from pipeline.stages.filter.near_duplicates.components import Components
from pipeline.stages.filter.near_duplicates.copies import Lookup, link_copies
from pipeline.stages.filter.near_duplicates.hash_groups import group_hashes

REASONS = list(RejectReason)  # a reason's code is its position
NONE = -1  # in the place of a code, or of a row

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.integer]
ReasonCodes = npt.NDArray[np.int8]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Images:
    """Facts of all images, (N,) each, in the source's order."""

    ids: Codes
    """Equal for equal ids, and in their order."""
    labels: Codes
    """Equal for equal labels."""
    ranks: Codes
    """Of the split that the source prescribes."""


def compare_images(
    facts: pa.Table, by_hand: Mapping[str, str], params: FilterParams, lookup: Lookup
) -> tuple[pa.Array, pa.Array]:
    """Compare all images with each other.

    Args:
        facts: id, label, split, reason (by its bytes alone) and phash of every raw image, in the
            source's order.
        by_hand: Ids to reject.
        lookup: Of what was remembered of images' appearance.

    Returns:
        For each image the reason to reject it or null, and the smallest id of its group of
        near-duplicates or null: two arrays of text.
    """
    ids = columns.contiguous(facts.column("id"))
    images = _read_images(ids, facts)
    reasons = _codes(facts.column("reason"), _reason_code)
    is_by_hand = pc.is_in(ids, pa.array(list(by_hand), pa.string()))
    reasons[(reasons == NONE) & columns.mask(is_by_hand)] = REASONS.index(RejectReason.BY_HAND)
    reasons = np.where(reasons == NONE, _judge_copies(images), reasons)
    leaders: Codes = np.full(len(reasons), NONE, np.int32)
    if params.near_duplicate_bits is not None:
        rows = np.flatnonzero(reasons == NONE)
        hashes = facts.column("phash").to_numpy()[rows]
        components = Components(group_hashes(hashes, params.near_duplicate_bits))
        if params.near_duplicate_crops:
            link_copies(ids, rows, images.ids, lookup, project.cache(), components)
        leaders[rows] = _find_leaders(components.groups(), rows, images)
        if params.near_duplicates == "keep_one":
            reasons[_find_others(leaders, images)] = REASONS.index(RejectReason.NEAR_DUPLICATE)
    near_groups = ids.take(_with_nulls(leaders))
    return pa.array(REASONS, pa.string()).take(_with_nulls(reasons)), near_groups


def _read_images(ids: pa.StringArray, facts: pa.Table) -> _Images:
    ranks = pc.rank(ids, tiebreaker="dense").to_numpy().astype(np.int32)
    labels = facts.column("label").combine_chunks().dictionary_encode().indices.to_numpy()
    return _Images(ranks, labels, _codes(facts.column("split"), split_rank))


def _judge_copies(images: _Images) -> ReasonCodes:
    """The codes of reasons to reject images because of others with the same bytes.

    Of equal images under one label one stays: the one in the latest prescribed split, or the first.
    Under two labels none stays, since either may be wrong.
    """
    order = np.lexsort((-images.ranks, images.ids))  # stable: in the source's order
    ids, labels = images.ids[order], images.labels[order]
    is_first = _is_first(ids)
    copy_of = np.cumsum(is_first) - 1
    starts = np.flatnonzero(is_first)
    is_mixed = np.minimum.reduceat(labels, starts) != np.maximum.reduceat(labels, starts)
    codes = np.where(is_first, NONE, REASONS.index(RejectReason.DUPLICATE)).astype(np.int8)
    codes[is_mixed[copy_of]] = REASONS.index(RejectReason.CONFLICTING_LABELS)
    reasons = np.empty_like(codes)
    reasons[order] = codes
    return reasons


def _find_leaders(groups: Ints, rows: Ints, images: _Images) -> Ints:
    """For each of `rows` the row with the smallest id of its group; `NONE` for groups of one."""
    order = np.lexsort((images.ids[rows], groups))
    is_first = _is_first(groups[order])
    group_of = np.cumsum(is_first) - 1
    leaders = np.where(np.bincount(group_of) > 1, rows[order[is_first]], NONE)
    result = np.empty_like(rows)
    result[order] = leaders[group_of]
    return result


def _find_others(leaders: Codes, images: _Images) -> Ints:
    """The rows of near-duplicates but for one of each group and label.

    One in the latest prescribed split stays, and of these the one with the smallest id.
    """
    rows = np.flatnonzero(leaders != NONE)
    leaders, labels = leaders[rows], images.labels[rows]
    order = np.lexsort((images.ids[rows], -images.ranks[rows], labels, leaders))
    return rows[order[~(_is_first(leaders[order]) | _is_first(labels[order]))]]


def _is_first(values: Codes) -> Bools:
    """Whether a value of a sorted array differs from the one before."""
    return np.asarray(np.append(True, values[1:] != values[:-1])[: len(values)])


def _codes(column: pa.ChunkedArray, encode: Callable[[str | None], int]) -> ReasonCodes:
    """The small code of each text of a column with few different ones."""
    encoded = column.combine_chunks().dictionary_encode()
    codes = np.array([*map(encode, encoded.dictionary.to_pylist()), encode(None)], np.int8)
    return np.asarray(codes[encoded.indices.fill_null(len(codes) - 1).to_numpy()])


def _reason_code(reason: str | None) -> int:
    return NONE if reason is None else REASONS.index(RejectReason(reason))


def _with_nulls(numbers: Codes) -> pa.Array:
    column = array(numbers)
    return pc.if_else(pc.equal(column, NONE), None, column)
