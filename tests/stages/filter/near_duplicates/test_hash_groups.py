import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from pipeline.stages.filter.near_duplicates import hash_groups

Hashes = npt.NDArray[np.uint64]

CHECKED = settings(derandomize=True, max_examples=60)
ALL_BITS = range(7)


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> object:
    """Let a few hundred hashes reach the code that divides large blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hash_groups, "MAX_COMPARED", 64)
        yield


def hashes(*values: int) -> Hashes:
    return np.array(values, np.uint64)


def canonical(groups: npt.NDArray[np.int64]) -> list[int]:
    """Number each group by the index of its first member."""
    names = groups.tolist()
    return [names.index(name) for name in names]


def group(values: Hashes, bits: int) -> list[int]:
    return canonical(hash_groups.group_hashes(values, bits))


def compared_each_with_each(values: Hashes, bits: int) -> list[int]:
    linked = np.bitwise_count(values[:, None] ^ values[None, :]) <= bits
    return canonical(connected_components(csr_array(linked), directed=False)[1].astype(np.int64))


def spread(values: npt.NDArray[np.int64], positions: npt.NDArray[np.int64]) -> Hashes:
    """Move bit k of each value to the k-th of the positions."""
    laid = np.zeros(len(values), np.uint64)
    for number, position in enumerate(positions):
        bit = ((values >> number) & 1).astype(np.uint64)
        laid |= bit << np.uint64(position)
    return laid


def among(random: np.random.Generator, count: int, free: int) -> Hashes:
    """Hashes that differ in `free` positions only."""
    values = random.integers(0, 2**free, count)
    common = random.integers(0, 2**64, dtype=np.uint64)
    return spread(values, random.permutation(64)[:free]) ^ common


def clustered(random: np.random.Generator, count: int, flips: int) -> Hashes:
    """Copies of a few hashes, with up to `flips` bits flipped in each."""
    centres = random.integers(0, 2**64, max(1, count // 20), dtype=np.uint64)
    copies = centres[random.integers(0, len(centres), count)]
    for _ in range(flips):
        copies ^= np.uint64(1) << random.integers(0, 64, count).astype(np.uint64)
    return copies


def flip(value: int, *positions: int) -> int:
    for position in positions:
        value ^= 1 << position
    return value


@CHECKED
@given(st.lists(st.integers(0, 2**64 - 1), max_size=40), st.sampled_from(ALL_BITS))
def test_any_hashes_are_grouped_as_by_comparing_each_with_each(
    values: list[int], bits: int
) -> None:
    assert group(hashes(*values), bits) == compared_each_with_each(hashes(*values), bits)


@settings(CHECKED, max_examples=150)
@given(
    bits=st.sampled_from(ALL_BITS),
    seed=st.integers(0, 2**32),
    count=st.integers(1, 400),
    flips=st.integers(0, 8),
)
def test_clustered_hashes_are_grouped_as_by_comparing_each_with_each(
    bits: int, seed: int, count: int, flips: int
) -> None:
    values = clustered(np.random.default_rng(seed), count, flips)
    assert group(values, bits) == compared_each_with_each(values, bits)


@settings(CHECKED, max_examples=150)
@given(
    bits=st.sampled_from(ALL_BITS),
    seed=st.integers(0, 2**32),
    count=st.integers(65, 500),
    free=st.integers(1, 34),
)
def test_hashes_that_agree_on_most_bits_are_grouped_as_by_comparing_each_with_each(
    bits: int, seed: int, count: int, free: int
) -> None:
    values = among(np.random.default_rng(seed), count, free)
    assert group(values, bits) == compared_each_with_each(values, bits)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_the_block_size_changes_no_group(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = among(np.random.default_rng(bits), 2000, 12 + 4 * bits)
    expected = compared_each_with_each(values, bits)
    for compared in (64, 128, 256):
        monkeypatch.setattr(hash_groups, "MAX_COMPARED", compared)
        assert group(values, bits) == expected
    assert bits == 0 or 1 < len(set(expected)) < 2000


@pytest.mark.parametrize("bits", ALL_BITS)
def test_all_hashes_that_differ_in_a_few_positions_are_one_group(bits: int) -> None:
    values = spread(np.arange(2**9), np.arange(50, 59))
    groups = 1 if bits else 2**9
    assert len(set(group(values, bits))) == groups


@CHECKED
@given(st.integers(0, 2**32), st.sampled_from(ALL_BITS))
def test_the_order_of_the_hashes_does_not_matter(seed: int, bits: int) -> None:
    random = np.random.default_rng(seed)
    values = np.concatenate([clustered(random, 150, 4), among(random, 150, 14)])
    order = random.permutation(len(values))
    back = np.argsort(order)
    assert group(values, bits) == canonical(hash_groups.group_hashes(values[order], bits)[back])


@pytest.mark.parametrize("bits", range(1, 7))
def test_hashes_that_differ_in_up_to_bits_positions_are_one_group(bits: int) -> None:
    start = 0x0123_4567_89AB_CDEF
    places = [0, 13, 22, 31, 40, 52, 63]
    near_by, apart = flip(start, *places[:bits]), flip(start, *places[: bits + 1])
    assert group(hashes(start, near_by), bits) == [0, 0]
    assert group(hashes(start, apart), bits) == [0, 1]


def test_a_hash_near_one_member_joins_the_group() -> None:
    chain = [flip(0, *range(length)) for length in range(0, 64, 3)]
    assert set(group(hashes(*chain), 3)) == {0}
    assert len(set(group(hashes(*chain), 2))) == len(chain)


def test_equal_hashes_are_one_group_with_zero_bits() -> None:
    assert group(hashes(5, 7, 5, 6, 7), 0) == [0, 1, 0, 3, 1]


@pytest.mark.parametrize("bits", ALL_BITS)
def test_empty_single_and_extreme_hashes_are_grouped(bits: int) -> None:
    assert group(hashes(), bits) == []
    assert group(hashes(2**64 - 1), bits) == [0]
    assert group(hashes(0, 2**64 - 1, 0), bits) == [0, 1, 0]


@pytest.mark.parametrize("bits", range(1, 7))
def test_planted_chains_are_found_among_a_hundred_thousand(bits: int) -> None:
    random = np.random.default_rng(bits)
    alone, chains, length = 95_000, 1000, 5
    links = [random.integers(0, 2**64, chains, dtype=np.uint64)]
    turns = random.permuted(np.tile(np.arange(64), (chains, 1)), axis=1)
    for number in range(1, length):  # each differs from the one before in exactly `bits` bits
        mask = np.zeros(chains, np.uint64)
        for position in turns[:, (number - 1) * bits : number * bits].T:
            mask |= np.uint64(1) << position.astype(np.uint64)
        links.append(links[-1] ^ mask)
    values = np.concatenate([random.integers(0, 2**64, alone, dtype=np.uint64), *links])
    order = random.permutation(len(values))
    expected = np.concatenate([np.arange(alone), np.tile(np.arange(chains) + alone, length)])[order]
    groups = hash_groups.group_hashes(values[order], bits)
    pairs = np.unique(np.stack([groups, expected]), axis=1)
    assert pairs.shape[1] == len(np.unique(groups)) == alone + chains


def test_a_hundred_thousand_crowded_hashes_are_grouped_as_by_neighbour_search() -> None:
    values = np.unique(among(np.random.default_rng(0), 100_000, 22))
    ones, others = [], []
    for position in range(64):
        neighbours = values ^ (np.uint64(1) << np.uint64(position))
        at = np.minimum(np.searchsorted(values, neighbours), len(values) - 1)
        there = np.flatnonzero(values[at] == neighbours)
        ones.append(there)
        others.append(at[there])
    links = (np.ones(sum(map(len, ones)), bool), (np.concatenate(ones), np.concatenate(others)))
    count, expected = connected_components(csr_array(links, shape=(len(values),) * 2))
    groups = hash_groups.group_hashes(values, 1)
    assert 1000 < count < len(values) - 1000
    assert np.unique(np.stack([groups, expected]), axis=1).shape[1] == count
    assert len(np.unique(groups)) == count
