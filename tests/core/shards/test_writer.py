import tempfile
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core import shards
from pipeline.core.shards import writer

TEXT = st.none() | st.text("aé", max_size=3)
ROW = st.fixed_dictionaries(
    {"id": st.text("ab", max_size=3), "label": st.text("ab", max_size=3)}
    | {"name": st.text("ab", max_size=3), "bytes": st.binary(max_size=9)},
    optional={"split": TEXT, "licence": TEXT, "url": TEXT},
)


@settings(derandomize=True, max_examples=60)
@given(st.lists(ROW, min_size=1, max_size=24), st.randoms(use_true_random=False))
def test_the_bytes_do_not_depend_on_the_batches_that_rows_come_in(
    rows: list[dict[str, Any]], random: Random
) -> None:
    batch = pa.RecordBatch.from_pylist([*rows[-3:], *rows, *rows[:3]], schema=shards.RAW)
    start = end = min(3, len(rows))
    slices = []
    while start < end + len(rows):
        length = random.randint(1, end + len(rows) - start)
        slices.append(batch.slice(start, length))
        start += length
    with tempfile.TemporaryDirectory() as folder:
        whole, sliced = Path(folder, "whole"), Path(folder, "sliced")
        shards.write(whole, shards.RAW, rows)
        shards.write_batches(sliced, shards.RAW, slices)
        assert (sliced / "00000.arrow").read_bytes() == (whole / "00000.arrow").read_bytes()


def test_no_memory_of_earlier_shards_is_in_the_bytes(tmp_path: Path) -> None:
    rows = [{"id": "1", "label": "cat", "name": "cat/1.jpg", "bytes": b"x"}]
    batch = pa.RecordBatch.from_pylist(rows, schema=shards.RAW)
    for name, fill in (("zeros", 0), ("ones", 255)):
        joiner = writer._Joiner()
        joiner._memory[:] = fill
        writer._write_joined(tmp_path / name, shards.RAW, [batch], joiner)
    assert (tmp_path / "zeros").read_bytes() == (tmp_path / "ones").read_bytes()
