from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.distributed import parts
from pipeline.distributed.parts import Part, compute_part
from pipeline.distributed.shared_results import SharedResults

PATHS = [Path(f"{number}.arrow") for number in range(11)]


@pytest.mark.parametrize(
    ("seconds", "sizes"), [(100, [1, 2, 4, 4]), (0, [1] * 11)], ids=["fast", "slow"]
)
def test_fast_shards_are_computed_together(
    monkeypatch: pytest.MonkeyPatch, seconds: float, sizes: list[int]
) -> None:
    """A tiny network would take as long to start as to compute a shard."""
    monkeypatch.setattr(parts, "SECONDS", seconds)
    groups: list[Sequence[Path]] = []
    shared = SharedResults(None, "test", [])
    assert compute_part(Part(1, 1), PATHS, shared, groups.append, at_once=4) == len(PATHS)
    assert [len(group) for group in groups] == sizes
    assert [path for group in groups for path in group] == PATHS
