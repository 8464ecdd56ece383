"""Photographs at gs:// addresses; test_object_storage.py has what does not depend on the kind."""

from collections.abc import Iterator
from pathlib import Path

import gcsfs
import pytest

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.sources.object_storage import mirror
from tests.builders.gs import BUCKET, serve_gs

FILES = {f"{label}/{n}.jpg": f"{label} {n}".encode() for label in ("cat", "dog") for n in "012"}


@pytest.fixture
def files(root: Path) -> Iterator[gcsfs.GCSFileSystem]:
    """The file system of a bucket with a folder `photos`."""
    with serve_gs():
        gcsfs.GCSFileSystem.clear_instance_cache()
        storage = gcsfs.GCSFileSystem(skip_instance_cache=True)
        storage.pipe({f"{BUCKET}/photos/{name}": data for name, data in FILES.items()})
        yield storage


def contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_what_changed_is_fetched(
    files: gcsfs.GCSFileSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"gs://{BUCKET}/photos"
    assert contents(mirror(address, 1e9)) == FILES
    assert "acquire: fetching 6 files" in capsys.readouterr().out
    changed = {"cat/0.jpg": b"other", "dog/new.jpg": b"new"}
    files.pipe({f"{BUCKET}/photos/{name}": data for name, data in changed.items()})
    files.rm(f"{BUCKET}/photos/dog/1.jpg")
    expected = {name: data for name, data in FILES.items() if name != "dog/1.jpg"} | changed
    assert contents(mirror(address, 1e9)) == expected
    assert "acquire: fetching 2 files" in capsys.readouterr().out
    assert mirror(f"{address}/cat/1.jpg", 1e9).read_bytes() == FILES["cat/1.jpg"]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (f"gs://{BUCKET}/nothing", f"gs://{BUCKET}/nothing has no files: correct path in"),
        ("gs://other/photos", r"gs://other/photos cannot be read \(FileNotFoundError"),
    ],
)
def test_an_address_without_files(files: gcsfs.GCSFileSystem, address: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        mirror(address, 1e9)
