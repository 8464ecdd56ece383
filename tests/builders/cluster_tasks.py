"""A part of filter, as it is sent to a machine of a cluster."""

from pathlib import Path

from pipeline.distributed.cluster_task import ClusterTask


def cluster_task_of(project: Path) -> ClusterTask:
    """The only part of a project with one shard of five bytes, data/raw/1.arrow."""
    return ClusterTask(
        stage="filter",
        arguments=[],
        part="1/1",
        key="key",
        cpus=1,
        project=str(project),
        root=str(project),
        token=str(project / "token"),
        inputs={},
        shards="data/raw",
        sizes={"1.arrow": 5},
        digests={},
        cache="",
    )
