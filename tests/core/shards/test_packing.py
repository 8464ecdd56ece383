from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.core.shards.packing import ShardUse, select_rewritten
from pipeline.core.shards.writer import ROWS


def full(rows: int) -> list[int]:
    """The rows of the shards that so many rows fill."""
    return [ROWS] * (rows // ROWS) + [rows % ROWS] * (rows % ROWS > 0)


def append(shards: list[int], new: int) -> tuple[list[int], int]:
    """The rows of all shards after a run with `new` rows more, and how many it writes."""
    rows = np.array([*shards, *full(new)])
    is_rewritten = select_rewritten(ShardUse(rows, rows, 1500 * rows, len(shards)))
    is_new = np.arange(len(rows)) >= len(shards)
    packed = int(rows[is_rewritten].sum())
    return rows[~is_rewritten].tolist() + full(packed), packed + int(
        rows[is_new & ~is_rewritten].sum()
    )


def grow(count: int, new: int, runs: int) -> Iterator[tuple[list[int], int]]:
    """The shards and the rows written in each run that adds `new` rows."""
    shards = full(count)
    for _ in range(runs):
        shards, written = append(shards, new)
        yield shards, written


@pytest.mark.parametrize("count", [300, 1000, 10_000, 100_000])
@pytest.mark.parametrize("new", [1, 10, 100])
def test_daily_appends_leave_few_shards_at_a_logarithmic_cost(count: int, new: int) -> None:
    runs = list(grow(count, new, 365))
    shards, _ = runs[-1]
    assert sum(shards) == count + 365 * new
    assert len(shards) <= sum(shards) / ROWS + 85
    assert sum(written for _, written in runs) <= 5 * 365 * new


@pytest.mark.parametrize("count", [1000, 5300, 10_000, 99_999, 1_000_000])
def test_one_per_cent_more_rows_write_at_most_three_per_cent(count: int) -> None:
    for shards, written in grow(count, count // 100, 60):
        assert written <= 0.03 * sum(shards)


def test_shards_that_lost_most_rows_are_merged() -> None:
    rows = np.full(40, ROWS)
    used = np.where(np.arange(40) < 10, ROWS // 10, ROWS)
    is_rewritten = select_rewritten(ShardUse(rows, used, 1500 * rows, 40))
    assert is_rewritten.tolist() == [True] * 10 + [False] * 30


def test_a_shard_without_used_rows_is_not_read() -> None:
    use = ShardUse(np.array([ROWS, ROWS]), np.array([0, ROWS]), np.array([9, 9]), 2)
    assert select_rewritten(use).tolist() == [False, False]


def test_a_shard_is_full_by_its_bytes_too() -> None:
    rows, large = np.array([100, 100, 100, 100]), np.array([60, 60, 60, 60]) * 2**20
    assert not select_rewritten(ShardUse(rows, rows, large, 3)).any()
