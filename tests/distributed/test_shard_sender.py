"""Parts for machines that do not see the project, through a shared cache in a folder."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core.errors import PipelineError
from pipeline.distributed import cluster_task, shard_sender
from pipeline.distributed.shard_sender import ShardSender
from pipeline.distributed.shared_cache import FolderCache
from tests.builders.cluster_tasks import cluster_task_of

SHARDS = {f"{number}.arrow": bytes([number]) * 10 for number in range(5)}


@pytest.fixture
def project(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (world / "raw").mkdir()
    (world / "shared").mkdir()
    (world / "params.yaml").write_text("params")
    for name, content in SHARDS.items():
        (world / "raw" / name).write_bytes(content)
    monkeypatch.setenv("PIPELINE_CACHE", str(world / "shared"))
    return world


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of files of each call that writes some."""
    counts: list[int] = []
    write = FolderCache.write

    def note(cache: FolderCache, folder: str, files: Mapping[str, bytes]) -> None:
        counts.append(len(files))
        write(cache, folder, files)

    monkeypatch.setattr(FolderCache, "write", note)
    return counts


def read_inputs(paths: Sequence[Path]) -> dict[str, bytes]:
    return {"split.csv": " ".join(path.name for path in paths).encode()}


def test_a_part_is_sent_with_all_it_reads(
    project: Path, written: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    task = replace(cluster_task_of(project), shards="raw", sizes={"1.arrow": 10, "3.arrow": 10})
    sent = ShardSender(read_inputs).send(task)
    assert sent.inputs == {"params.yaml": b"params", "split.csv": b"1.arrow 3.arrow"}
    assert written == [2]
    folder = tmp_path_factory.mktemp("machine") / "raw"
    cluster_task._fetch_shards(replace(sent, cache=str(project / "shared")), folder)
    received = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert received == {name: SHARDS[name] for name in task.sizes}


def test_shards_are_written_together_and_once(
    project: Path, written: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_sender, "MAX_BYTES", 15)
    task = replace(cluster_task_of(project), shards="raw", sizes=dict.fromkeys(SHARDS, 10))
    sender = ShardSender(read_inputs)
    sent = sender.send(task)
    assert written == [2, 2, 1]
    assert sender.send(task) == ShardSender(read_inputs).send(task) == sent
    assert written == [2, 2, 1]


def test_without_a_shared_cache_nothing_can_be_sent(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ShardSender(read_inputs).can_send
    monkeypatch.delenv("PIPELINE_CACHE")
    assert not ShardSender(read_inputs).can_send


def test_absolute_paths_are_not_sent(project: Path) -> None:
    """A machine would write them over the project's."""
    task = replace(cluster_task_of(project), shards=str(project / "raw"), sizes={"1.arrow": 10})
    with pytest.raises(PipelineError, match="give the stage paths relative to the project"):
        ShardSender(read_inputs).send(task)
