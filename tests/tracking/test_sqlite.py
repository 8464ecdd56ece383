from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.tracking import sqlite, store

NAMES = ["plain", "a?b", "a%20b", "a#b", "a b", "ünï", "-dash", "a:b@c", "100%"]


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_read_from_the_address_that_was_made_of_it(name: str) -> None:
    path = Path("/srv", name, "mlflow.db")
    assert sqlite.to_path(sqlite.to_address(path)) == path
    assert sqlite.resolve(sqlite.to_address(Path("mine.db")), path.parent) == sqlite.to_address(
        path.parent / "mine.db"
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_store_is_in_the_project_whatever_its_folder_is_called(
    tmp_path: Path, empty_store: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.builders.stores import copy_store

    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.setenv("DVC_ROOT", str(folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    copy_store(empty_store, folder)
    experiment = store.experiment_id("pets")
    run = MlflowClient().create_run(experiment).info.run_id
    MlflowClient().log_text(run, "text", "note.txt")
    assert store.load_text(run, "note.txt") == "text"
    assert store.address() == f"sqlite:///{folder}/mlflow.db"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (folder / "mlartifacts/pets" / run / "artifacts/note.txt").exists()


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("sqlite:///a/b.db", "a/b.db"),
        ("sqlite:////a%20b/c.db?timeout=5", "/a b/c.db"),
        ("sqlite:///:memory:", None),
        ("sqlite://", None),
        ("http://host:5000", None),
        ("postgresql://host/db", None),
    ],
)
def test_addresses_of_files_have_paths(address: str, path: str | None) -> None:
    assert sqlite.to_path(address) == (path and Path(path))


def test_a_relative_address_keeps_its_options() -> None:
    assert sqlite.resolve("sqlite:///b.db?timeout=5", Path("/a")) == "sqlite:////a/b.db?timeout=5"
