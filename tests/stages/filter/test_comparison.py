from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.params import FilterParams
from pipeline.stages.filter.comparison import compare_images
from tests.builders.params import FILTER_PARAMS


def no_appearance(ids: pa.Array, columns: list[str]) -> pa.RecordBatch:
    """As of images that are too small for patches."""
    return pa.RecordBatch.from_pydict({name: pa.array([b""] * len(ids)) for name in columns})


def compared(facts: pa.Table, params: FilterParams) -> tuple[list[str | None], list[str | None]]:
    """Reasons and near-duplicate groups."""
    reasons, groups = compare_images(facts, {}, params, no_appearance)
    return reasons.to_pylist(), groups.to_pylist()


@settings(derandomize=True, max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["cat", "dog"]),
            st.sampled_from([None, "train", "val", "test"]),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=10,
    ),
    st.sampled_from(["keep", "keep_one"]),
    st.randoms(use_true_random=False),
)
def test_comparisons_do_not_depend_on_the_order_of_the_images(
    album: list[tuple[str, str | None, int]], near_duplicates: str, random: Random
) -> None:
    limits = FILTER_PARAMS.model_copy(update={"near_duplicates": near_duplicates})
    shuffled = [(f"{number:02d}", *facts) for number, facts in enumerate(album)]
    random.shuffle(shuffled)

    def compare(ordered: list[tuple[str, str, str | None, int]]) -> dict[str, tuple[Any, Any]]:
        ids, labels, splits, scenes = zip(*ordered, strict=True)
        hashes = [0xFF << 16 * scene_number for scene_number in scenes]
        facts = pa.table(
            {
                "id": ids,
                "label": labels,
                "split": pa.array(splits, pa.string()),
                "reason": pa.nulls(len(ids), pa.string()),
                "phash": pa.array(hashes, pa.uint64()),
            }
        )
        return dict(zip(ids, zip(*compared(facts, limits), strict=True), strict=True))

    outcomes = compare(shuffled)
    assert outcomes == compare(sorted(shuffled))
    for label in ("cat", "dog"):
        for scene_number in range(4):
            rows = [row for row in shuffled if (row[1], row[3]) == (label, scene_number)]
            accepted = {row[0] for row in rows if outcomes[row[0]][0] is None}
            order = {"test": 0, "val": 1, "train": 2, None: 3}
            best = min(rows, key=lambda row: (order[row[2]], row[0]), default=None)
            expected = (
                {best[0]} if best and near_duplicates == "keep_one" else {row[0] for row in rows}
            )
            assert accepted == expected


def test_zero_bits_group_only_equal_hashes() -> None:
    hash_value = np.random.default_rng(0).integers(0, 2**63, dtype=np.uint64)
    hashes = pa.array([hash_value, hash_value ^ np.uint64(1), hash_value], pa.uint64())
    facts = pa.table(
        {
            "id": ["c", "b", "a"],
            "label": ["cat"] * 3,
            "split": pa.nulls(3, pa.string()),
            "reason": pa.nulls(3, pa.string()),
            "phash": hashes,
        }
    )
    zero_bits, one_bit = (
        FILTER_PARAMS.model_copy(update={"near_duplicate_bits": bits}) for bits in (0, 1)
    )
    assert compared(facts, zero_bits) == ([None] * 3, ["a", None, "a"])
    assert compared(facts, one_bit) == ([None] * 3, ["a"] * 3)
