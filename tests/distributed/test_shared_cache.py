import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import fsspec  # noqa: F401
import pytest
import s3fs

from pipeline.core.errors import PipelineError
from pipeline.distributed import shared_cache
from pipeline.distributed.shared_cache import SharedCache, open_shared_cache
from tests.builders.s3 import BUCKET, serve_s3, use_s3


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with serve_s3() as address:
        yield address


@pytest.fixture(params=["folder", "s3"])
def cache(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> SharedCache:
    address = str(tmp_path)
    if request.param == "s3":
        use_s3(monkeypatch, request.getfixturevalue("s3"))
        address = f"s3://{BUCKET}/{tmp_path.name}/"
    monkeypatch.setenv("PIPELINE_CACHE", address)
    cache = open_shared_cache()
    assert cache is not None
    return cache


def read(cache: SharedCache, folder: str) -> dict[str, bytes]:
    return dict(cache.read(folder, cache.sizes(folder)))


def test_files_of_a_folder_are_read_as_they_were_written(cache: SharedCache) -> None:
    assert read(cache, "filter/key") == {}
    files = {"a": b"", "b": bytes(range(256))}
    cache.write("filter/key", files)
    cache.write("filter/key", {"c": b"later"})
    cache.write("filter/other", {"a": b"another"})
    assert cache.sizes("filter/key") == {"a": 0, "b": 256, "c": 5}
    assert read(cache, "filter/key") == files | {"c": b"later"}
    assert read(cache, "filter") == {}


def test_a_file_that_is_there_is_replaced(cache: SharedCache) -> None:
    cache.write("key", {"a": b"cut off"})
    cache.write("key", {"a": b"whole"})
    assert read(cache, "key") == {"a": b"whole"}


def test_many_files_are_read_in_bounded_batches(
    cache: SharedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{number:02}": bytes([number]) * number for number in range(20)}
    cache.write("key", files)
    monkeypatch.setattr(shared_cache, "MAX_READ_BYTES", 40)
    monkeypatch.setattr(shared_cache, "MAX_READ_FILES", 7)
    batches = list(shared_cache._batches(dict(sorted(cache.sizes("key").items()))))
    sizes = [sum(map(int, batch)) for batch in batches]
    assert max(sizes) <= 40
    assert max(map(len, batches)) == 7
    assert read(cache, "key") == files


def test_without_the_variable_there_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_shared_cache() is None
    for nothing in ("", " "):
        monkeypatch.setenv("PIPELINE_CACHE", nothing)
        assert open_shared_cache() is None


def test_an_empty_endpoint_is_that_of_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a workflow sets it where its repository has none."""
    use_s3(monkeypatch, "")
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    files.connect()
    assert files.s3.meta.endpoint_url.startswith("https://s3.")
    assert files.s3.meta.endpoint_url.endswith("amazonaws.com")


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("cache", "=cache is a relative path, and stages run in several folders: give the abs"),
        ("/not/mounted", "=/not/mounted is not a folder: create it, or mount what it is on"),
        (
            "nothing://bucket",
            "=nothing://bucket is not an address of object storage, such as s3://bucket/prefix",
        ),
        (
            "s3://key:secret@bucket/prefix",
            "=s3://bucket/prefix has a password in front of the @: set it in the environment",
        ),
    ],
)
def test_an_address_that_cannot_work_is_refused(
    monkeypatch: pytest.MonkeyPatch, address: str, problem: str
) -> None:
    monkeypatch.setenv("PIPELINE_CACHE", address)
    with pytest.raises(PipelineError) as caught:
        open_shared_cache()
    assert str(caught.value).startswith(f"PIPELINE_CACHE{problem}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("kind", "package"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, kind: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, kind, raising=False)
    monkeypatch.setenv("PIPELINE_CACHE", f"{kind}://bucket")
    with pytest.raises(PipelineError) as caught:
        open_shared_cache()
    assert str(caught.value) == (
        f"PIPELINE_CACHE={kind}://bucket needs a package that is not installed: "
        f"pip install '.[{kind}]'"
    )


def test_a_missing_package_without_an_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adlfs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "az", raising=False)
    monkeypatch.setenv("PIPELINE_CACHE", "az://container")
    with pytest.raises(PipelineError, match=r"needs a package that is not installed: .*adlfs"):
        open_shared_cache()


def test_errors_of_the_server_are_sentences(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_s3(monkeypatch, s3)
    monkeypatch.setenv("PIPELINE_CACHE", "s3://missing")
    cache = open_shared_cache()
    assert cache is not None
    with pytest.raises(PipelineError) as caught:
        cache.write("key", {"a": b""})
    assert str(caught.value) == (
        "PIPELINE_CACHE=s3://missing cannot be written (FileNotFoundError: The specified bucket "
        "does not exist): check the address and the credentials"
    )


def test_a_killed_write_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path))
    cache = open_shared_cache()
    assert cache is not None
    cache.write("key", {"a": b"whole"})
    (tmp_path / "key" / ".b.staging-xyz").mkdir()
    (tmp_path / "key" / ".b.staging-xyz" / "b").write_bytes(b"cut")
    assert cache.sizes("key") == {"a": 5}


def types(files: Mapping[str, bytes]) -> set[type]:
    return {type(content) for content in files.values()}


def test_contents_are_bytes(cache: SharedCache) -> None:
    cache.write("key", {"a": b"1", "b": b"2"})
    assert types(read(cache, "key")) == {bytes}
