"""A part on a machine of a cluster, without a cluster."""

from pathlib import Path

import pytest

from pipeline.distributed.cluster_task import Answer, ClusterTask, Outcome, compute_task
from tests.builders.cluster_tasks import cluster_task_of

STAGE = """
import os, signal, sys
print("first line", file=sys.stderr)
{action}
"""


@pytest.fixture
def task(tmp_path: Path) -> ClusterTask:
    """Of a project with one shard, which this machine sees."""
    token, shards = tmp_path / "token", tmp_path / "data/raw"
    token.write_text(str(token))
    shards.mkdir(parents=True)
    (shards / "1.arrow").write_bytes(b"shard")
    return cluster_task_of(tmp_path)


def write_stage(project: Path, action: str) -> None:
    """A stage in the place of the real one."""
    module = project / "pipeline/stages/filter.py"
    module.parent.mkdir(parents=True)
    for folder in (module.parent, module.parent.parent):
        (folder / "__init__.py").touch()
    module.write_text(STAGE.format(action=action))


@pytest.mark.parametrize(
    ("action", "answer"),
    [
        ("sys.exit(0)", Answer(Outcome.DONE)),
        ("os.kill(os.getpid(), signal.SIGKILL)", Answer(Outcome.KILLED)),
        ("os.kill(os.getpid(), signal.SIGTERM)", Answer(Outcome.KILLED)),
        ("sys.exit('error: the disk is full')", Answer(Outcome.FAILED, "the disk is full")),
        ("sys.exit(2)", Answer(Outcome.FAILED, "first line")),
    ],
)
def test_the_end_of_the_stage_is_told(task: ClusterTask, action: str, answer: Answer) -> None:
    """A killed one is no fault of the data: another machine can compute it."""
    write_stage(Path(task.project), action)
    assert compute_task(task) == answer


@pytest.mark.parametrize("change", ["token", "missing", "size"])
def test_a_machine_with_another_disk_does_not_see_the_project(
    task: ClusterTask, change: str
) -> None:
    project = Path(task.project)
    if change == "token":
        Path(task.token).write_text("of another project")
    elif change == "missing":
        (project / "data/raw/1.arrow").unlink()
    else:
        (project / "data/raw/1.arrow").write_bytes(b"older shard")
    assert compute_task(task) == Answer(Outcome.NOT_SEEN)
