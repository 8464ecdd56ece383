import pytest

from pipeline.core.addresses import is_address, is_url, open_address
from pipeline.core.errors import PipelineError


@pytest.mark.parametrize("text", ["http://a.org/b", "https://a.org", "HTTPS://A.org/x.zip"])
def test_urls_are_for_the_client_that_checks_them(text: str) -> None:
    assert is_url(text)
    assert not is_address(text)


@pytest.mark.parametrize("text", ["photos", "/a/b", "C:/x", "a:b", "~/x"])
def test_paths_are_neither(text: str) -> None:
    assert not is_url(text)
    assert not is_address(text)


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc",
        "local:///etc",
        "memory://a",
        "ftp://host/a",
        "sftp://host/a",
        "simplecache::http://127.0.0.1:80/a.zip",
        "simplecache::s3://bucket/a",
        "zip://a::s3://bucket/b.zip",
        "s3::http://127.0.0.1/a",
        "s3://bucket::http://127.0.0.1/a",
        "S3://bucket/a",
        "s3://",
        "github://owner:repo@main/a",
    ],
)
def test_nothing_but_object_storage_is_asked(address: str) -> None:
    """A stranger's dataset.toml must not reach this machine's files or network."""
    with pytest.raises(PipelineError, match=r"^path=.* (is not an address of|has a password)"):
        open_address(address, "path")
