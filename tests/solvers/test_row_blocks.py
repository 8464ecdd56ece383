import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.solvers import row_blocks

EXAMPLES = settings(derandomize=True, max_examples=50)


@EXAMPLES
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 12))
def test_blocks_have_whole_groups(numbers: list[int], size: int) -> None:
    groups = np.array(numbers)
    blocks = row_blocks.whole_groups(groups, size)
    assert sorted(np.concatenate(blocks).tolist()) == list(range(len(groups)))
    for block in blocks:
        assert (np.diff(groups[block]) >= 0).all()
        assert len(block) <= size or len(set(groups[block].tolist())) == 1
    held = [set(groups[block].tolist()) for block in blocks]
    assert sum(map(len, held)) == len(set(numbers))


@pytest.mark.parametrize("count", [0, 1, 7])
def test_results_are_in_order(count: int) -> None:
    assert list(row_blocks.map_blocks(lambda number: number**2, range(count))) == [
        number**2 for number in range(count)
    ]


def test_an_error_in_a_block_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(row_blocks.map_blocks(lambda number: 1 // number, [2, 1, 0]))
