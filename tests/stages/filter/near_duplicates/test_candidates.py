from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stages.filter.near_duplicates import candidates
from pipeline.stages.filter.near_duplicates.candidates import MAX_BITS, PatchHashes

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
CHECKED = settings(derandomize=True, max_examples=60, deadline=None)
HERE = Path()  # small tests write no file


def find_matches(hashes: Hashes, counts: Ints, ranks: Ints) -> set[tuple[int, ...]]:
    """Left image, right image, left patch, right patch, bits."""
    with PatchHashes(HERE) as patches:
        half = len(counts) // 2
        split = int(counts[:half].sum())
        patches.append(hashes[:split], counts[:half])
        patches.append(hashes[split:], counts[half:])
        pairs = [
            row
            for matches in patches.matches(ranks)
            for row in np.stack([*vars(matches).values()], axis=1).tolist()
        ]
    assert len(pairs) == len({tuple(row) for row in pairs})
    return {tuple(row) for row in pairs}


def compare_each_with_each(hashes: Hashes, counts: Ints, ranks: Ints) -> set[tuple[int, ...]]:
    images = np.repeat(np.arange(len(counts)), counts)
    patches = np.concatenate([np.arange(count) for count in counts]).astype(int)
    matches: set[tuple[int, ...]] = set()
    for a in range(len(hashes)):
        for b in range(len(hashes)):
            differing = int(hashes[a] ^ hashes[b])
            left, right = int(images[a]), int(images[b])
            is_same_key = differing < 2**39
            if is_same_key and differing.bit_count() <= MAX_BITS and ranks[left] < ranks[right]:
                matches.add((left, right, int(patches[a]), int(patches[b]), differing.bit_count()))
    return matches


def draw_hashes(seed: int) -> tuple[Hashes, Ints, Ints]:
    """Some near one another, some with other keys."""
    random = np.random.default_rng(seed)
    counts = random.integers(0, 5, 12)
    centres = random.integers(0, 2**63, 4, dtype=np.uint64)
    hashes = centres[random.integers(0, 4, counts.sum())]
    for _ in range(5):
        bits = random.integers(0, 45, len(hashes)).astype(np.uint64)
        hashes ^= np.uint64(1) << bits
    return hashes, counts, random.permutation(len(counts))


@CHECKED
@given(st.integers(0, 2**32), st.sampled_from([1, 5, 1000]), st.sampled_from([3, 1000]))
def test_matches_are_those_of_comparing_each_with_each(seed: int, part: int, block: int) -> None:
    hashes, counts, ranks = draw_hashes(seed)
    expected = compare_each_with_each(hashes, counts, ranks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "PART", part)
        patch.setattr(candidates, "BLOCK", block)
        assert find_matches(hashes, counts, ranks) == expected


def test_no_images_have_no_matches() -> None:
    none = np.zeros(0, np.int64)
    assert find_matches(np.zeros(0, np.uint64), none, none) == set()
    assert find_matches(np.zeros(0, np.uint64), np.zeros(4, np.int64), np.arange(4)) == set()


def test_each_of_many_equal_hashes_matches_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "WINDOW", 3)
    count = 50
    hashes, ones = np.full(count, 7, np.uint64), np.ones(count, np.int64)
    ranks = np.random.default_rng(0).permutation(count)
    pairs = {
        (int(ranks[left]), int(ranks[right]))
        for left, right, *_ in find_matches(hashes, ones, ranks)
    }
    assert pairs == {
        (low, low + step) for step in (1, 2, 3) for low in range(count) if low + step < count
    }


def test_more_hashes_than_memory_holds_are_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "IN_MEMORY", 100)
    hashes = np.arange(1000, dtype=np.uint64) << np.uint64(39)
    with PatchHashes(tmp_path) as patches:
        patches.append(np.concatenate([hashes, hashes]), np.array([1000 // 5] * 10))
        matches = list(patches.matches(np.arange(10)))
    assert sum(len(part.left) for part in matches) == 1000
    assert not list(tmp_path.iterdir())
