"""DVC's list of processes, which anything may have written."""

import json
import os
from pathlib import Path

import psutil
import pytest

from pipeline.experiments import dvc


def user(pid: object) -> dict[str, object]:
    return {"pid": pid, "cmd": "dvc repro"}


def test_processes_that_read_or_write_are_users(tmp_path: Path) -> None:
    me, parent = os.getpid(), psutil.Process().ppid()
    lists = {"read": {"a": [user(me)], "b": []}, "write": {"c": user(parent)}}
    (tmp_path / "rwlock").write_text(json.dumps(lists))
    assert dvc._users(tmp_path / "rwlock") == {me, parent}
    os.utime(tmp_path / "rwlock", (0, 0))  # older than processes that have these ids by chance
    assert dvc._users(tmp_path / "rwlock") == set()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        "null",
        '{"write": []}',
        '{"write": {"a": 1}}',
        '{"read": {"a": {"pid": 1}}}',
        json.dumps({"write": {"a": user("1")}}),
        json.dumps({"write": {"a": user([])}}),
        json.dumps({"write": {"a": user(-1)}}),
        json.dumps({"write": {"a": user(2**70)}}),
    ],
)
def test_a_damaged_list_has_no_users(tmp_path: Path, content: str) -> None:
    (tmp_path / "rwlock").write_text(content)
    assert dvc._users(tmp_path / "rwlock") == set()
    assert dvc._users(tmp_path / "missing") == set()
