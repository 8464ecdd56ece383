import hashlib
from pathlib import Path

import pytest

from pipeline.core import file_digests


@pytest.mark.parametrize("data", [b"", b"x" * 300_000])
def test_digests_are_those_of_the_bytes(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    assert file_digests.sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    assert file_digests.md5(tmp_path / "a") == hashlib.md5(data).hexdigest()


@pytest.mark.parametrize(
    ("text", "is_md5"),
    [
        ("0123456789abcdef" * 2, True),
        ("0123456789ABCDEF" * 2, False),
        ("0" * 31, False),
        ("0" * 32 + "\n", False),
        ("0" * 32 + ".dir", False),
        ("../" + "0" * 29, False),
    ],
)
def test_an_md5_has_32_digits(text: str, is_md5: bool) -> None:
    assert file_digests.is_md5(text) is is_md5
