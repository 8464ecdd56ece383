"""Archives of real photographs, in the folder that PIPELINE_TEST_PHOTOS names."""

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PHOTOS = Path(os.environ.get("PIPELINE_TEST_PHOTOS", ""))


def archive(name: str) -> Path:
    """The path of a real archive; skips the test if it is missing."""
    path = (PHOTOS / name).resolve()
    if not path.is_file():
        pytest.skip(f"PIPELINE_TEST_PHOTOS names no folder with {name}")
    return path


def read_photographs(name: str, step: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and bytes of every `step`-th file of an archive."""
    with zipfile.ZipFile(archive(name)) as opened:
        files = [info for info in opened.infolist() if not info.is_dir()]
        for info in files[::step]:
            yield info.filename, opened.read(info)
