"""What is sent to a cluster, without a cluster."""

from pathlib import Path

import pytest

from pipeline.distributed import cluster
from pipeline.distributed.cluster import Work
from pipeline.images.memo import Memo
from pipeline.stages.filter.judge_all import SCHEMA


def test_a_task_has_only_the_shards_of_its_part(world: Path) -> None:
    """Of a hundred million images, all names would be a hundred thousand per task."""
    (world / "raw").mkdir()
    for number in range(7):
        (world / f"raw/{number}.arrow").write_bytes(b"x" * number)
    work = Work("filter", [], Path("raw"), lambda _: {}, [Memo("filter", "key", SCHEMA)])
    tasks = cluster._tasks(work, 3, "token", 1)
    assert [task.part for task in tasks] == ["1/3", "2/3", "3/3"]
    assert [task.sizes for task in tasks] == [
        {"0.arrow": 0, "3.arrow": 3, "6.arrow": 6},
        {"1.arrow": 1, "4.arrow": 4},
        {"2.arrow": 2, "5.arrow": 5},
    ]


@pytest.mark.parametrize(("shards", "nodes", "parts"), [(9, 1, 1), (9, 2, 8), (3, 2, 3)])
def test_one_machine_has_one_part(shards: int, nodes: int, parts: int) -> None:
    """Nothing can be lost to another, and each part takes seconds to start."""
    assert cluster.part_count(shards, nodes) == parts
