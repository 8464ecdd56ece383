"""DVC's remote and MLflow's server, with real DVC, and servers on 127.0.0.1 that do not answer."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo

from pipeline.commands.doctor import cache_links, servers
from pipeline.core.errors import PipelineError


def lines_of(findings: object) -> list[str]:
    return [finding.line() for finding in findings]  # type: ignore[attr-defined]


@pytest.fixture
def repo(world: Path) -> Any:
    return Repo.init(str(world), no_scm=True)


def add_remote(repo: Any, url: str) -> Any:
    with repo.config.edit() as config:
        config["remote"]["store"] = {"url": url}
        config["core"]["remote"] = "store"
    return Repo(repo.root_dir)


def test_a_remote_that_answers_is_right(repo: Any, tmp_path: Path) -> None:
    assert lines_of(servers.examine_remote(repo)) == []
    (tmp_path / "store").mkdir()
    assert lines_of(servers.examine_remote(add_remote(repo, str(tmp_path / "store")))) == []


def test_a_folder_that_is_missing_is_reported(repo: Any, tmp_path: Path) -> None:
    (line,) = lines_of(servers.examine_remote(add_remote(repo, str(tmp_path / "gone"))))
    assert line.startswith("wrong: the folder of DVC's remote store (gone) does not exist here")


def test_s3_needs_its_plugin(repo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    (line,) = lines_of(servers.examine_remote(add_remote(repo, "s3://bucket/path")))
    assert line.endswith("needs the package dvc-s3: `make env` installs it")


def test_a_remote_that_refuses_the_credentials_is_reported(
    repo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store").mkdir()
    cloud = add_remote(repo, str(tmp_path / "store"))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(cloud.cloud.get_remote("store").fs.fs.__class__, "ls", refuse)
    (line,) = lines_of(servers.examine_remote(cloud))
    assert line.endswith(
        "does not answer (Access Denied): docs/remotes.md has the settings and credentials; work "
        "goes on without it"
    )


def test_an_mlflow_server_that_does_not_answer_is_reported(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lines_of(servers.examine_mlflow("sample")) == []
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    (line,) = lines_of(servers.examine_mlflow("sample"))
    assert line.startswith("wrong: MLflow's server http://127.0.0.1:9 does not answer (")
    assert "`pipeline sync` records later" in line


@pytest.mark.parametrize(
    ("kind", "driver", "advice"),
    [
        ("postgres", "psycopg", "pip install '.[server]'"),
        (
            "postgresql+psycopg2",
            "psycopg2",
            "write postgresql:// in MLFLOW_TRACKING_URI, for the driver of pip install '.[server]'",
        ),
    ],
)
def test_a_database_without_its_driver_is_reported(
    world: Path, monkeypatch: pytest.MonkeyPatch, kind: str, driver: str, advice: str
) -> None:
    monkeypatch.setitem(sys.modules, driver, None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{kind}://me:secret@127.0.0.1:9/no-{driver}")
    (line,) = lines_of(servers.examine_mlflow("sample"))
    scheme = {"postgres": "postgresql"}.get(kind, kind)
    assert line.startswith(
        f"wrong: MLflow's server {scheme}://127.0.0.1:9/no-{driver} does not answer ({driver} "
        f"is not installed: {advice}): "
    )


def test_a_database_that_cannot_be_reached_is_reported_at_once(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@127.0.0.1:9/away")
    start = time.monotonic()
    (line,) = lines_of(servers.examine_mlflow("sample"))
    assert "does not answer (connection failed: " in line
    assert "secret" not in line
    assert time.monotonic() - start < servers.TIMEOUT


def test_a_shared_cache_that_cannot_be_used_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lines_of(servers.examine_shared_cache()) == []
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path))
    assert lines_of(servers.examine_shared_cache()) == []
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    (line,) = lines_of(servers.examine_shared_cache())
    assert "cannot be written, so nobody else gets what is computed here" in line
    for value, problem in (
        (str(tmp_path / "gone"), "is not a folder: create it, or mount what it is on"),
        ("http://127.0.0.1:9/x", "is not an address of object storage"),
    ):
        monkeypatch.setenv("PIPELINE_CACHE", value)
        (line,) = lines_of(servers.examine_shared_cache())
        assert line.startswith(f"wrong: PIPELINE_CACHE={value} {problem}")


def test_a_cluster_that_cannot_be_used_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lines_of(servers.examine_cluster()) == []
    monkeypatch.setenv("PIPELINE_CLUSTER", "ray://127.0.0.1:9")
    (line,) = lines_of(servers.examine_cluster())
    assert line.startswith("wrong: PIPELINE_CLUSTER=ray://127.0.0.1:9 cannot be reached (")
    monkeypatch.setitem(sys.modules, "ray", None)
    (line,) = lines_of(servers.examine_cluster())
    assert "needs Ray: pip install '.[cluster]'" in line


def test_who_does_not_answer_at_all_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr(servers, "TIMEOUT", 0.01)
    never = threading.Event()
    assert servers._answer(never.wait) == "no answer in 0.01 s"
    never.set()


def test_the_reason_is_the_first_cause() -> None:
    def fail() -> None:
        try:
            raise OSError("Access Denied")
        except OSError as error:
            raise PipelineError("it cannot be listed") from error

    assert servers._answer(fail) == "Access Denied"


def test_a_cache_on_the_same_disk_can_be_linked(repo: Any) -> None:
    Path(repo.cache.local.path).mkdir(parents=True, exist_ok=True)
    with repo.config.edit() as config:
        config["cache"]["type"] = ["hardlink", "symlink"]
    assert lines_of(cache_links.examine(Repo(repo.root_dir))) == []


def test_a_cache_that_cannot_be_linked_is_reported(
    repo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    Path(repo.cache.local.path).mkdir(parents=True, exist_ok=True)
    monkeypatch.setitem(cache_links.LINKS, "hardlink", refuse)
    with repo.config.edit() as config:
        config["cache"]["type"] = ["hardlink"]
    (line,) = lines_of(cache_links.examine(Repo(repo.root_dir)))
    assert "(hardlink: Invalid cross-device link), so it stores everything twice" in line
    assert "`dvc cache dir --local FOLDER`" in line
