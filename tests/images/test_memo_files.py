import contextlib
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.images import memo_files
from pipeline.images.memo import KEY
from pipeline.images.memo_files import DamagedFileError, open_file

SCHEMA = pa.schema([KEY, ("value", pa.string())])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [{"key": f"image {number}", "value": "x"} for number in range(3)]
    return memo_files.write_file(tmp_path, pa.RecordBatch.from_pylist(rows, SCHEMA)).path


@pytest.mark.parametrize("bit", [0, 5])
def test_a_flipped_bit_anywhere_is_damage_if_it_is_seen(file: Path, bit: int) -> None:
    content = file.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        file.write_bytes(damaged)
        with contextlib.suppress(DamagedFileError):
            open_file(file, SCHEMA)  # otherwise its bytes are checked before they are used


def test_a_file_that_is_cut_off_anywhere_is_damaged(file: Path) -> None:
    content = file.read_bytes()
    for size in range(len(content)):
        file.write_bytes(content[:size])
        with pytest.raises(DamagedFileError):
            open_file(file, SCHEMA)
